/** What a client shows to the server it calls, and whom it trusts to be that server. */
export interface ClientCredentials {
  /** Sent as a bearer token. */
  readonly token?: string
  /** CA certificates, PEM, in place of the system's. */
  readonly authorities?: string
}

/** Asked before every call: credentials are replaced while we run. */
export type CredentialSource = () => ClientCredentials

export const noCredentials: CredentialSource = () => ({})

export function authorizationOf({ token }: ClientCredentials): { authorization?: string } {
  return token === undefined ? {} : { authorization: `Bearer ${token}` }
}

/** The connections of one client, all to servers that the same authorities vouch for. */
export interface Connections<T> {
  /** Opened anew when other authorities are to be trusted; those before are retired. */
  trusting(authorities: string | undefined): T
  /** Retires those there are. */
  close(): Promise<void>
}

export function connections<T>(
  open: (authorities: string | undefined) => T,
  retire: (connections: T) => Promise<void>,
): Connections<T> {
  let current: { readonly authorities: string | undefined; readonly connections: T } | undefined
  const close = async () => {
    const last = current
    current = undefined
    if (last !== undefined) await retire(last.connections)
  }
  return {
    trusting: (authorities) => {
      if (current === undefined || current.authorities !== authorities) {
        void close()
        current = { authorities, connections: open(authorities) }
      }
      return current.connections
    },
    close,
  }
}
