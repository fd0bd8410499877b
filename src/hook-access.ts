import { constants, createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Server, ServerOptions } from 'node:https'
import type { TLSSocket } from 'node:tls'

/** Who may call the hooks, and over what. Nothing set: everybody, over HTTP. */
export interface HookAccess {
  /** What the server starts with; `replaceTls` renews it. */
  readonly tls?: HookTls
  /** The bearer tokens accepted now: one of them is asked for in every call. */
  readonly tokens?: () => readonly string[]
}

export interface HookTls {
  readonly certificate: string
  readonly key: string
  /** CA certificates, PEM: a client certificate that one of them has signed is asked for. */
  readonly clientAuthorities?: string
}

/** Time for the handshake of a new connection. */
const HANDSHAKE_MS = 10_000

/**
 * A caller with the wrong certificate, or none, gets through the handshake and a 401 for each call: that is what the
 * caller's operators see, where a handshake cut off is one more broken connection. No session is ever resumed: that
 * would skip the certificate, and Metacontroller keeps its connections open anyway.
 */
export function tlsOptions({ certificate, key, clientAuthorities }: HookTls): ServerOptions {
  return {
    cert: certificate,
    key,
    minVersion: 'TLSv1.2',
    secureOptions: constants.SSL_OP_NO_TICKET,
    handshakeTimeout: HANDSHAKE_MS,
    ...(clientAuthorities === undefined ? {} : { ca: clientAuthorities, requestCert: true, rejectUnauthorized: false }),
  }
}

/** New connections use `tls` from now on; open ones stay as they are. */
export function replaceTls(server: object, tls: HookTls): void {
  ;(server as Server).setSecureContext(tlsOptions(tls))
}

/** Whether the call carries everything that is asked for. Looks at the head of the request only. */
export function isAllowed({ headers, socket }: IncomingMessage, { tls, tokens }: HookAccess): boolean {
  if (tls?.clientAuthorities !== undefined && !hasCertificate(socket as TLSSocket)) return false
  return tokens === undefined || hasToken(headers.authorization, tokens())
}

/** `authorized` alone is also true of a session resumed without a certificate. */
function hasCertificate(socket: TLSSocket): boolean {
  return socket.authorized && socket.getPeerX509Certificate() !== undefined
}

/** Takes as long whichever token is tried and however much of it is right. */
function hasToken(authorization: string | undefined, tokens: readonly string[]): boolean {
  const [, given = ''] = /^Bearer +(\S+) *$/i.exec(authorization ?? '') ?? []
  const digest = digestOf(given)
  let found = false
  for (const token of tokens) found = timingSafeEqual(digestOf(token), digest) || found
  return found
}

const digestOf = (token: string) => createHash('sha256').update(token).digest()
