import type { BaseLogger } from 'pino'
import type { CredentialSource } from './clients/credentials.js'
import type { Clock } from './clock.js'
import { type Config, ConfigExit } from './config.js'
import { type Authorities, type KeyPair, readAuthorities, readKeyPair, readToken, readTokens } from './credentials.js'
import type { HookAccess, HookTls } from './hook-access.js'
import type { CredentialName, Metrics } from './metrics.js'
import { BadFile, type FileText, type MountedFiles, mountedFiles } from './mounted-files.js'

/** Every credential the options name, kept up to date. */
export interface CredentialFiles {
  /** Who may call the hooks now; `onTls` is told when what the server presents or trusts has changed. */
  hooks(onTls: (tls: HookTls) => void): HookAccess
  readonly prometheus: CredentialSource
  readonly mayastor: CredentialSource
  stop(): void
}

export interface CredentialFilesDeps {
  readonly config: Config
  readonly clock: Clock
  readonly log: BaseLogger
  readonly metrics: Pick<Metrics, 'credentialStale' | 'certificateExpiry'>
}

/** Throws ConfigExit where a file cannot be used: better not to start than to start with less than was asked for. */
export async function openCredentialFiles(deps: CredentialFilesDeps): Promise<CredentialFiles> {
  const { config, clock, log, metrics } = deps
  const opened: MountedFiles<unknown>[] = []

  const open = async <T, const P extends readonly string[]>(
    credential: CredentialName,
    paths: P,
    read: (files: { readonly [K in keyof P]: FileText }) => T,
    onReplaced: () => void = () => {},
  ): Promise<MountedFiles<T>> => {
    const show = (value: T) => {
      metrics.credentialStale.set({ credential }, 0)
      const { expiresAt } = value as { readonly expiresAt?: number }
      if (expiresAt !== undefined) metrics.certificateExpiry.set({ credential }, expiresAt / 1000)
    }
    try {
      const mounted = await mountedFiles({
        paths,
        read,
        clock,
        onChange: (change) => {
          if (change.kind === 'kept') {
            metrics.credentialStale.set({ credential }, 1)
            log.error({ credential, problem: change.problem }, 'credential not replaced; the one before stays in use')
            return
          }
          show(change.value)
          log.info({ credential }, 'credential replaced')
          onReplaced()
        },
      })
      show(mounted.current())
      opened.push(mounted)
      return mounted
    } catch (error) {
      if (!(error instanceof BadFile)) throw error
      throw new ConfigExit(2, `error: option --${credential}-file: ${error.message}`)
    }
  }

  /** Undefined where the option names no file. */
  const openOne = async <T>(
    credential: CredentialName,
    path: string | undefined,
    read: (file: FileText) => T,
    onReplaced?: () => void,
  ) => (path === undefined ? undefined : open(credential, [path], ([file]) => read(file), onReplaced))

  const { hookTlsCertFile, hookTlsKeyFile } = config
  let keyPair: MountedFiles<KeyPair> | undefined
  let clientCa: MountedFiles<Authorities> | undefined
  const hookTls = (): HookTls | undefined => {
    const pair = keyPair?.current()
    const authorities = clientCa?.current().certificates
    return pair && { ...pair, ...(authorities === undefined ? {} : { clientAuthorities: authorities }) }
  }
  let onHookTls = (_: HookTls) => {}
  const renewHookTls = () => {
    const tls = hookTls()
    if (tls !== undefined) onHookTls(tls)
  }
  if (hookTlsCertFile !== undefined && hookTlsKeyFile !== undefined) {
    const paths = [hookTlsCertFile, hookTlsKeyFile] as const
    keyPair = await open('hook-tls-cert', paths, (files) => readKeyPair(...files), renewHookTls)
  }
  clientCa = await openOne('hook-client-ca', config.hookClientCaFile, readAuthorities, renewHookTls)
  const hookTokens = await openOne('hook-token', config.hookTokenFile, readTokens)
  const client = async (name: 'prometheus' | 'mayastor'): Promise<CredentialSource> => {
    const token = await openOne(`${name}-token`, config[`${name}TokenFile`], readToken)
    const ca = await openOne(`${name}-ca`, config[`${name}CaFile`], readAuthorities)
    return () => ({
      ...(token === undefined ? {} : { token: token.current() }),
      ...(ca === undefined ? {} : { authorities: ca.current().certificates }),
    })
  }
  return {
    hooks: (onTls) => {
      onHookTls = onTls
      const tls = hookTls()
      return {
        ...(tls === undefined ? {} : { tls }),
        ...(hookTokens === undefined ? {} : { tokens: hookTokens.current }),
      }
    },
    prometheus: await client('prometheus'),
    mayastor: await client('mayastor'),
    stop: () => {
      for (const mounted of opened) mounted.stop()
    },
  }
}
