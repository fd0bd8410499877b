import { readFileSync } from 'node:fs'
import { Command, CommanderError, Option } from 'commander'
import { DEFAULT_DISKPOOL_API_VERSION, NAMESPACE } from './api/names.js'
import { kubeconfigPaths } from './clients/kubernetes.js'

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** Where a server listens. Port 0: any free port. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** A header of a request. */
export interface Header {
  readonly name: string
  readonly value: string
}

export interface Config {
  /** Base URL without a slash at its end. */
  readonly prometheusUrl: string
  readonly prometheusTokenFile: string | undefined
  readonly prometheusCaFile: string | undefined
  readonly prometheusHeader: Header | undefined
  /** Migrations in the whole cluster, 1-1000. */
  readonly maxConcurrentMigrations: number
  /** Default of a policy's `migrationTimeout`, 1-10080. */
  readonly migrationTimeoutMinutes: number
  readonly dryRun: boolean
  readonly preservationMode: boolean
  readonly logLevel: LogLevel
  readonly logJson: boolean
  readonly metricsAddr: Address
  readonly healthAddr: Address
  readonly hookAddr: Address
  /** Either both of these or neither. */
  readonly hookTlsCertFile: string | undefined
  readonly hookTlsKeyFile: string | undefined
  /** Only with TLS. */
  readonly hookClientCaFile: string | undefined
  readonly hookTokenFile: string | undefined
  /** Hook calls answered at once, 1-10000. */
  readonly hookMaxRequests: number
  /** Base URL without a slash at its end. */
  readonly mayastorUrl: string
  readonly mayastorTokenFile: string | undefined
  readonly mayastorCaFile: string | undefined
  /** Such as `openebs.io/v1beta3`; undefined: ask the API server. */
  readonly diskpoolApiVersion: string | undefined
  /** Namespace of the operator's Leases. */
  readonly namespace: string
  /** Kubeconfig files to look for, from KUBECONFIG or the home directory, as kubectl does. */
  readonly kubeconfigs: readonly string[]
}

/** parseConfig has nothing to run: print `message` to stdout (exit code 0) or stderr (exit code 2) and exit. */
export class ConfigExit extends Error {
  override readonly name = 'ConfigExit'
  readonly exitCode: 0 | 2

  constructor(exitCode: 0 | 2, message: string) {
    super(message)
    this.exitCode = exitCode
  }
}

interface Setting<T> {
  readonly option: string
  /** Placeholder of the value in the help. Square brackets: the value may be left out and is then true. */
  readonly value: string
  readonly help: string
  /** As it would be typed; undefined: there is no default. */
  readonly default?: string
  /** The value may be a secret: an error does not repeat it. */
  readonly secret?: boolean
  /** The value; throws BadValue with what would be right. */
  readonly parse: (text: string) => T
}

class BadValue extends Error {}

const SETTINGS = {
  prometheusUrl: {
    option: 'prometheus-url',
    value: '<url>',
    help: 'Prometheus to query for IOPS',
    default: 'http://prometheus.monitoring.svc.cluster.local:9090',
    parse: url,
  },
  prometheusTokenFile: {
    option: 'prometheus-token-file',
    value: '<file>',
    help: 'send the bearer token in this file to Prometheus',
    parse: file,
  },
  prometheusCaFile: {
    option: 'prometheus-ca-file',
    value: '<file>',
    help: "trust these CAs for Prometheus, instead of the system's",
    parse: file,
  },
  prometheusHeader: {
    option: 'prometheus-header',
    value: '<name: value>',
    help: 'one more header for Prometheus, such as the tenant of Mimir: "X-Scope-OrgID: storage"',
    secret: true,
    parse: header,
  },
  maxConcurrentMigrations: {
    option: 'max-concurrent-migrations',
    value: '<count>',
    help: 'migrations at a time in the whole cluster, 1 to 1000',
    default: '2',
    parse: integer(1, 1000),
  },
  migrationTimeoutMinutes: {
    option: 'migration-timeout-minutes',
    value: '<minutes>',
    help: 'undo a migration after this long without progress, unless its policy says otherwise, 1 to 10080',
    default: '30',
    parse: integer(1, 10_080),
  },
  dryRun: {
    option: 'dry-run',
    value: '[true|false]',
    help: 'decide and report, start no migration',
    default: 'false',
    parse: boolean,
  },
  preservationMode: {
    option: 'preservation-mode',
    value: '[true|false]',
    help: 'add the new replica but never remove the old one',
    default: 'false',
    parse: boolean,
  },
  logLevel: {
    option: 'log-level',
    value: '<level>',
    help: `log from this level on: ${LOG_LEVELS.join(', ')}`,
    default: 'info',
    parse: logLevel,
  },
  logJson: {
    option: 'log-json',
    value: '[true|false]',
    help: 'log JSON, one object a line',
    default: 'false',
    parse: boolean,
  },
  metricsAddr: {
    option: 'metrics-addr',
    value: '<host:port>',
    help: 'serve /metrics here',
    default: '0.0.0.0:8080',
    parse: address,
  },
  healthAddr: {
    option: 'health-addr',
    value: '<host:port>',
    help: 'serve /healthz and /readyz here',
    default: '0.0.0.0:8081',
    parse: address,
  },
  hookAddr: {
    option: 'hook-addr',
    value: '<host:port>',
    help: "serve Metacontroller's hooks here",
    default: '0.0.0.0:8082',
    parse: address,
  },
  hookTlsCertFile: {
    option: 'hook-tls-cert-file',
    value: '<file>',
    help: 'serve the hooks over HTTPS with this certificate (PEM, with its chain); needs --hook-tls-key-file',
    parse: file,
  },
  hookTlsKeyFile: {
    option: 'hook-tls-key-file',
    value: '<file>',
    help: 'private key of --hook-tls-cert-file (PEM)',
    parse: file,
  },
  hookClientCaFile: {
    option: 'hook-client-ca-file',
    value: '<file>',
    help: 'answer only callers with a client certificate signed by these CAs (PEM); needs TLS',
    parse: file,
  },
  hookTokenFile: {
    option: 'hook-token-file',
    value: '<file>',
    help: 'answer only callers with one of the bearer tokens in this file, one a line',
    parse: file,
  },
  hookMaxRequests: {
    option: 'hook-max-requests',
    value: '<count>',
    help: 'hook calls answered at once, 1 to 10000; above it callers are told to come again',
    // More than both controllers of a Metacontroller call with at once that has fifty workers for each.
    default: '128',
    parse: integer(1, 10_000),
  },
  mayastorUrl: {
    option: 'mayastor-url',
    value: '<url>',
    help: "Mayastor's REST API",
    default: 'http://openebs-api-rest.openebs.svc.cluster.local:8081',
    parse: url,
  },
  mayastorTokenFile: {
    option: 'mayastor-token-file',
    value: '<file>',
    help: 'send the bearer token in this file to Mayastor',
    parse: file,
  },
  mayastorCaFile: {
    option: 'mayastor-ca-file',
    value: '<file>',
    help: "trust these CAs for Mayastor, instead of the system's",
    parse: file,
  },
  diskpoolApiVersion: {
    option: 'diskpool-api-version',
    value: '<group/version>',
    help: `version of the DiskPool resource, such as ${DEFAULT_DISKPOOL_API_VERSION}; default: what the cluster serves`,
    parse: diskpoolApiVersion,
  },
  namespace: {
    option: 'namespace',
    value: '<name>',
    help: `namespace of the operator's Leases; default: the pod's own, else ${NAMESPACE}`,
    parse: namespaceName,
  },
} satisfies Record<string, Setting<unknown>>

type Settings = typeof SETTINGS
type Parsed = { -readonly [K in keyof Settings]: ReturnType<Settings[K]['parse']> | undefined }

const SERVICE_ACCOUNT_NAMESPACE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace'

/**
 * The configuration from the arguments after the program's name and the environment. A flag beats the variable of the
 * same name in capitals, which beats the default; an empty variable counts as not set. Throws ConfigExit for --help,
 * --version and anything that cannot be used. `podNamespace` is what the service account says, if there is one.
 */
export function parseConfig(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  { version = '', podNamespace = readPodNamespace }: { version?: string; podNamespace?: () => string | undefined } = {},
): Config {
  const flags = parseFlags(argv, version)
  const parsed: Record<string, unknown> = {}
  for (const [key, setting] of Object.entries<Setting<unknown>>(SETTINGS)) {
    const flag = flags[key]
    const variable = variableName(setting)
    const text = flag ?? nonEmpty(env[variable]) ?? setting.default
    if (text === undefined) {
      parsed[key] = undefined
      continue
    }
    const from = flag === undefined ? `environment variable ${variable} (option --${setting.option})` : undefined
    parsed[key] = parseValue(setting, text, from ?? `option --${setting.option}`)
  }
  const { namespace, ...rest } = parsed as Parsed
  const config = {
    // What has a default is always there.
    ...(rest as Omit<Config, 'namespace' | 'kubeconfigs'>),
    namespace: namespace ?? podNamespace() ?? nonEmpty(env['POD_NAMESPACE']) ?? NAMESPACE,
    kubeconfigs: kubeconfigPaths(env),
  }
  const problem = inconsistency(config)
  if (problem !== undefined) throw new ConfigExit(2, `error: ${problem}`)
  return config
}

/** What is wrong with options that are right one by one. */
function inconsistency(config: Config): string | undefined {
  const { hookTlsCertFile, hookTlsKeyFile, hookClientCaFile } = config
  if (hookTlsCertFile !== undefined && hookTlsKeyFile === undefined) {
    return 'option --hook-tls-cert-file: needs --hook-tls-key-file beside it'
  }
  if (hookTlsKeyFile !== undefined && hookTlsCertFile === undefined) {
    return 'option --hook-tls-key-file: needs --hook-tls-cert-file beside it'
  }
  if (hookClientCaFile !== undefined && hookTlsCertFile === undefined) {
    return 'option --hook-client-ca-file: needs --hook-tls-cert-file and --hook-tls-key-file beside it'
  }
  for (const [name, url, caFile] of [
    ['prometheus', config.prometheusUrl, config.prometheusCaFile],
    ['mayastor', config.mayastorUrl, config.mayastorCaFile],
  ] as const) {
    if (caFile !== undefined && !url.startsWith('https:')) return `option --${name}-ca-file: --${name}-url is not https`
  }
  return undefined
}

/** `host:port` as it was or would be typed. */
export function formatAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function parseFlags(argv: readonly string[], version: string): Record<string, string | undefined> {
  let output = ''
  const program = new Command('smart-storage-operator')
    .description('Moves Mayastor replicas between NVMe and SATA pools, from a StoragePolicy and measured IOPS.')
    .version(version, '--version', 'print the version')
    .helpOption('--help', 'print this text')
    .addHelpText('after', '\nEach option is also an environment variable: the same name in capitals, DRY_RUN=true.')
    .addHelpText(
      'after',
      '\nsmart-storage-operator explain [claim or volume]: why a volume is where it is; see explain --help.',
    )
    .configureHelp({ helpWidth: 120 })
    .configureOutput({
      writeOut: (text) => {
        output += text
      },
      writeErr: () => {},
    })
    .allowExcessArguments(true)
    .exitOverride()
  for (const [key, setting] of Object.entries<Setting<unknown>>(SETTINGS)) {
    const fallback = setting.default === undefined ? '' : ` (default: ${setting.default})`
    const option = new Option(`--${setting.option} ${setting.value}`, `${setting.help}${fallback}`)
    // Commander derives the key from the flag's name; ours are the same.
    if (option.attributeName() !== key) throw new Error(`option ${setting.option} is not ${key}`)
    program.addOption(option)
  }
  try {
    program.parse(argv, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode === 0) throw new ConfigExit(0, output.trimEnd())
    throw new ConfigExit(2, oneLine(error.message))
  }
  const [excess] = program.args
  if (excess !== undefined) throw new ConfigExit(2, `error: unexpected argument ${quote(excess)}; see --help`)
  const given = Object.entries(program.opts<Record<string, string | true>>())
  return Object.fromEntries(given.map(([key, value]) => [key, value === true ? 'true' : value]))
}

function parseValue(setting: Setting<unknown>, text: string, from: string): unknown {
  try {
    return setting.parse(text.trim())
  } catch (error) {
    if (!(error instanceof BadValue)) throw error
    const got = setting.secret === true ? '' : `, got ${quote(text)}`
    throw new ConfigExit(2, `error: ${from}: ${error.message}${got}`)
  }
}

const variableName = (setting: Setting<unknown>) => setting.option.toUpperCase().replaceAll('-', '_')
const nonEmpty = (text: string | undefined) => (text === undefined || text.trim() === '' ? undefined : text.trim())

/** At most 100 characters of what was typed, on one line, with the password of a URL left out. */
function quote(text: string): string {
  const hidden = text.replace(/\/\/[^/@]*@/g, '//***@')
  const short = hidden.length > 100 ? `${hidden.slice(0, 100)}...` : hidden
  return JSON.stringify(short).replace(/\p{Cc}/gu, '?')
}

function oneLine(text: string): string {
  const line = text.replace(/[\s\p{Cc}]+/gu, ' ').trim()
  return line.length > 300 ? `${line.slice(0, 300)}...` : line
}

function readPodNamespace(): string | undefined {
  try {
    return nonEmpty(readFileSync(SERVICE_ACCOUNT_NAMESPACE, 'utf8'))
  } catch {
    return undefined
  }
}

function url(text: string): string {
  const wanted = 'expected a URL such as http://host:9090'
  let parsed: URL
  try {
    parsed = new URL(text)
  } catch {
    throw new BadValue(wanted)
  }
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') throw new BadValue(wanted)
  if (parsed.username !== '' || parsed.password !== '') throw new BadValue(`${wanted}, without user and password`)
  if (parsed.search !== '' || parsed.hash !== '') throw new BadValue(`${wanted}, without ? and #`)
  return parsed.href.replace(/\/+$/, '')
}

function file(text: string): string {
  if (text === '') throw new BadValue('expected the path of a file')
  return text
}

/** What HTTP itself or another option sets. */
const RESERVED_HEADER = /^(authorization|connection|content-.*|cookie|host|te|trailer|transfer-encoding|upgrade)$/i

function header(text: string): Header {
  const [, name = '', value = ''] = /^([A-Za-z0-9-]+):\s*([!-~](?:[ -~]*[!-~])?)$/.exec(text) ?? []
  if (name === '') throw new BadValue('expected a header such as "X-Scope-OrgID: storage"')
  if (RESERVED_HEADER.test(name)) throw new BadValue('expected another header than those HTTP needs and authorization')
  return { name, value }
}

function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN
    if (!(value >= least && value <= most)) throw new BadValue(`expected a whole number from ${least} to ${most}`)
    return value
  }
}

function boolean(text: string): boolean {
  switch (text.toLowerCase()) {
    case 'true':
    case '1':
    case 'yes':
      return true
    case 'false':
    case '0':
    case 'no':
      return false
    default:
      throw new BadValue('expected true or false')
  }
}

function logLevel(text: string): LogLevel {
  const level = LOG_LEVELS.find((known) => known === text.toLowerCase())
  if (level === undefined) throw new BadValue(`expected one of ${LOG_LEVELS.join(', ')}`)
  return level
}

function address(text: string): Address {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([A-Za-z0-9._-]*)):([0-9]{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) throw new BadValue('expected host:port such as 0.0.0.0:8080 or [::]:8080')
  return { host: match[1] ?? (match[2] || '0.0.0.0'), port }
}

function diskpoolApiVersion(text: string): string {
  if (!/^openebs\.io\/v[a-z0-9]+$/.test(text) || text.length > 63) {
    throw new BadValue(`expected a version of the group openebs.io such as ${DEFAULT_DISKPOOL_API_VERSION}`)
  }
  return text
}

function namespaceName(text: string): string {
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(text)) {
    throw new BadValue('expected the name of a namespace: lower-case letters, digits and dashes, at most 63')
  }
  return text
}
