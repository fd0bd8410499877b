import { delimiter } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { type Config, ConfigExit, formatAddress, parseConfig } from '../src/config.js'

const defaults: Config = {
  prometheusUrl: 'http://prometheus.monitoring.svc.cluster.local:9090',
  prometheusTokenFile: undefined,
  prometheusCaFile: undefined,
  prometheusHeader: undefined,
  maxConcurrentMigrations: 2,
  migrationTimeoutMinutes: 30,
  dryRun: false,
  preservationMode: false,
  logLevel: 'info',
  logJson: false,
  metricsAddr: { host: '0.0.0.0', port: 8080 },
  healthAddr: { host: '0.0.0.0', port: 8081 },
  hookAddr: { host: '0.0.0.0', port: 8082 },
  hookTlsCertFile: undefined,
  hookTlsKeyFile: undefined,
  hookClientCaFile: undefined,
  hookTokenFile: undefined,
  hookMaxRequests: 128,
  mayastorUrl: 'http://openebs-api-rest.openebs.svc.cluster.local:8081',
  mayastorTokenFile: undefined,
  mayastorCaFile: undefined,
  diskpoolApiVersion: undefined,
  namespace: 'smart-storage-system',
  kubeconfigs: [],
}

const parse = (argv: readonly string[], env: NodeJS.ProcessEnv = {}, podNamespace?: string) =>
  parseConfig(argv, env, { version: '1.2.3', podNamespace: () => podNamespace })

const exitOf = (run: () => unknown): ConfigExit => {
  try {
    run()
  } catch (error) {
    if (error instanceof ConfigExit) return error
    throw error
  }
  throw new Error('no ConfigExit')
}

interface Case {
  readonly option: string
  readonly key: keyof Config
  readonly good: Readonly<Record<string, unknown>>
  readonly bad: readonly string[]
  readonly expected: RegExp
  /** Options it needs beside it, and what they give. */
  readonly beside?: Partial<Config>
  /** An error does not repeat the value. */
  readonly secret?: true
}

const url: Pick<Case, 'good' | 'bad' | 'expected'> = {
  good: {
    'http://a': 'http://a',
    'https://a.b:9090/': 'https://a.b:9090',
    'http://[::1]:9090/prefix/': 'http://[::1]:9090/prefix',
  },
  bad: ['prometheus:9090', 'ftp://a', 'http://', 'http://a?x=1', 'http://a#x', 'http://user:secret@a', 'x'],
  expected: /expected a URL such as http:\/\/host:9090/,
}
const boolean: Pick<Case, 'good' | 'bad' | 'expected'> = {
  good: { true: true, '1': true, yes: true, YES: true, True: true, false: false, '0': false, no: false, FALSE: false },
  bad: ['on', '2', 'truee', '-'],
  expected: /expected true or false/,
}
const address: Pick<Case, 'good' | 'bad' | 'expected'> = {
  good: {
    '127.0.0.1:0': { host: '127.0.0.1', port: 0 },
    ':8080': { host: '0.0.0.0', port: 8080 },
    '[::]:8080': { host: '::', port: 8080 },
    'localhost:65535': { host: 'localhost', port: 65535 },
  },
  bad: ['8080', '127.0.0.1', '127.0.0.1:', '127.0.0.1:65536', '::1:80', 'a b:80', 'http://a:80', '[::]'],
  expected: /expected host:port such as 0\.0\.0\.0:8080/,
}
const count = (most: number): Pick<Case, 'good' | 'bad' | 'expected'> => ({
  good: { '1': 1, [String(most)]: most },
  bad: ['0', String(most + 1), '-1', '1.5', 'two', '1e2', '99999999999999999999', '0x10'],
  expected: new RegExp(`expected a whole number from 1 to ${most}`),
})

const file: Pick<Case, 'good' | 'bad' | 'expected'> = {
  good: { '/etc/token': '/etc/token', 'relative file': 'relative file' },
  bad: [],
  expected: /expected the path of a file/,
}

const cases: readonly Case[] = [
  { option: 'prometheus-token-file', key: 'prometheusTokenFile', ...file },
  { option: 'prometheus-ca-file', key: 'prometheusCaFile', ...file, beside: { prometheusUrl: 'https://p' } },
  { option: 'mayastor-token-file', key: 'mayastorTokenFile', ...file },
  { option: 'mayastor-ca-file', key: 'mayastorCaFile', ...file, beside: { mayastorUrl: 'https://m' } },
  { option: 'hook-token-file', key: 'hookTokenFile', ...file },
  { option: 'hook-tls-cert-file', key: 'hookTlsCertFile', ...file, beside: { hookTlsKeyFile: 'key' } },
  { option: 'hook-tls-key-file', key: 'hookTlsKeyFile', ...file, beside: { hookTlsCertFile: 'cert' } },
  {
    option: 'hook-client-ca-file',
    key: 'hookClientCaFile',
    ...file,
    beside: { hookTlsCertFile: 'cert', hookTlsKeyFile: 'key' },
  },
  { option: 'hook-max-requests', key: 'hookMaxRequests', ...count(10_000) },
  {
    option: 'prometheus-header',
    key: 'prometheusHeader',
    good: {
      'X-Scope-OrgID: storage': { name: 'X-Scope-OrgID', value: 'storage' },
      'THANOS-TENANT:a|b, c': { name: 'THANOS-TENANT', value: 'a|b, c' },
    },
    bad: [
      'X-Scope-OrgID',
      'X-Scope-OrgID: ',
      ': secret',
      'a b: secret',
      'a: secret\nb: c',
      'Authorization: secret',
      'Host: x',
    ],
    expected: /expected (a header such as "X-Scope-OrgID: storage"|another header than those HTTP needs)/,
    secret: true,
  },
  { option: 'prometheus-url', key: 'prometheusUrl', ...url },
  { option: 'mayastor-url', key: 'mayastorUrl', ...url },
  { option: 'max-concurrent-migrations', key: 'maxConcurrentMigrations', ...count(1000) },
  { option: 'migration-timeout-minutes', key: 'migrationTimeoutMinutes', ...count(10_080) },
  { option: 'dry-run', key: 'dryRun', ...boolean },
  { option: 'preservation-mode', key: 'preservationMode', ...boolean },
  { option: 'log-json', key: 'logJson', ...boolean },
  {
    option: 'log-level',
    key: 'logLevel',
    good: { trace: 'trace', debug: 'debug', info: 'info', warn: 'warn', error: 'error', DEBUG: 'debug' },
    bad: ['verbose', 'warning', 'fatal', '30'],
    expected: /expected one of trace, debug, info, warn, error/,
  },
  { option: 'metrics-addr', key: 'metricsAddr', ...address },
  { option: 'health-addr', key: 'healthAddr', ...address },
  { option: 'hook-addr', key: 'hookAddr', ...address },
  {
    option: 'diskpool-api-version',
    key: 'diskpoolApiVersion',
    good: { 'openebs.io/v1beta2': 'openebs.io/v1beta2', 'openebs.io/v1': 'openebs.io/v1' },
    bad: ['v1beta3', 'openebs.io', 'openebs.io/V1', 'example.com/v1', 'openebs.io/v1/x', 'openebs.io/v'],
    expected: /expected a version of the group openebs\.io such as openebs\.io\/v1beta3/,
  },
  {
    option: 'namespace',
    key: 'namespace',
    good: { 'my-ns': 'my-ns', a: 'a' },
    bad: ['My', 'a_b', '-a', 'a-', 'a'.repeat(64)],
    expected: /expected the name of a namespace/,
  },
]

t.test('defaults', async (t) => {
  t.strictSame(parse([]), defaults)
})

for (const { option, key, good, bad, expected, beside = {}, secret } of cases) {
  const variable = option.toUpperCase().replaceAll('-', '_')
  const others = Object.entries(beside).map(
    ([key, value]) => `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}=${value}`,
  )
  const given = { ...defaults, ...beside }
  t.test(`--${option}`, async (t) => {
    for (const [text, value] of Object.entries(good)) {
      const flags = [`--${option}=${text}`, ...others]
      t.strictSame(parse(flags), { ...given, [key]: value }, `flag ${text}`)
      t.strictSame(parse(others, { [variable]: ` ${text}\n` }), { ...given, [key]: value }, `variable ${text}`)
      t.strictSame(parse(flags, { [variable]: bad[0] }), { ...given, [key]: value }, 'flag wins')
    }
    t.strictSame(parse([], { [variable]: '' }), defaults, 'an empty variable is not set')
    t.strictSame(parse([], { [variable]: '  ' }), defaults, 'a blank variable is not set')
    for (const text of [...bad, '']) {
      const exit = exitOf(() => parse([`--${option}=${text}`]))
      t.equal(exit.exitCode, 2, `"${text}"`)
      t.match(exit.message, new RegExp(`^error: option --${option}: `))
      t.match(exit.message, expected)
      if (!secret) t.match(exit.message, /, got "[^\n]*"$/)
      t.notMatch(exit.message, /secret/)
      if (text === '') continue
      const fromEnv = exitOf(() => parse([], { [variable]: text }))
      t.equal(fromEnv.exitCode, 2)
      t.match(fromEnv.message, new RegExp(`^error: environment variable ${variable} \\(option --${option}\\): `))
      t.match(fromEnv.message, expected)
    }
  })
}

t.test('options that do not go together', async (t) => {
  const table: Record<string, string> = {
    '--hook-tls-cert-file=c': 'option --hook-tls-cert-file: needs --hook-tls-key-file beside it',
    '--hook-tls-key-file=k': 'option --hook-tls-key-file: needs --hook-tls-cert-file beside it',
    '--hook-client-ca-file=a':
      'option --hook-client-ca-file: needs --hook-tls-cert-file and --hook-tls-key-file beside it',
    '--prometheus-ca-file=a': 'option --prometheus-ca-file: --prometheus-url is not https',
    '--mayastor-ca-file=a': 'option --mayastor-ca-file: --mayastor-url is not https',
  }
  for (const [flag, message] of Object.entries(table)) {
    const exit = exitOf(() => parse([flag]))
    t.equal(exit.exitCode, 2)
    t.equal(exit.message, `error: ${message}`)
  }
})

t.test('switches', async (t) => {
  t.equal(parse(['--dry-run']).dryRun, true, 'alone')
  t.equal(parse(['--dry-run', '--log-json']).dryRun, true, 'before another option')
  t.equal(parse(['--dry-run', 'false']).dryRun, false, 'with its value apart')
  t.equal(parse(['--dry-run'], { DRY_RUN: 'false' }).dryRun, true, 'beats its variable')
  t.equal(parse(['--dry-run=false'], { DRY_RUN: 'true' }).dryRun, false, 'both ways')
})

t.test('arguments that are no options', async (t) => {
  const table: Record<string, [readonly string[], RegExp]> = {
    unknown: [['--prometheus'], /^error: unknown option '--prometheus'/],
    misspelt: [['--dryrun'], /^error: unknown option '--dryrun' \(Did you mean --dry-run\?\)$/],
    'without its value': [['--hook-addr'], /^error: option '--hook-addr <host:port>' argument missing$/],
    excess: [['start'], /^error: unexpected argument "start"; see --help$/],
    'after --': [['--', '--dry-run'], /^error: unexpected argument "--dry-run"; see --help$/],
  }
  for (const [name, [argv, message]] of Object.entries(table)) {
    const exit = exitOf(() => parse(argv))
    t.equal(exit.exitCode, 2, name)
    t.match(exit.message, message, name)
  }
})

t.test('help and version', async (t) => {
  const help = exitOf(() => parse(['--help']))
  t.equal(help.exitCode, 0)
  for (const { option } of cases) t.match(help.message, `--${option} `)
  t.match(help.message, /\(default:\s+http:\/\/prometheus\.monitoring\.svc\.cluster\.local:9090\)/)
  t.same(
    help.message.split('\n').filter((line) => line.length > 120),
    [],
    'no line is longer than 120',
  )
  const version = exitOf(() => parse(['--version']))
  t.equal(version.exitCode, 0)
  t.equal(version.message, '1.2.3')
})

t.test('namespace and kubeconfigs', async (t) => {
  t.equal(parse([], {}, 'from-pod').namespace, 'from-pod')
  t.equal(parse([], { POD_NAMESPACE: 'from-env' }).namespace, 'from-env')
  t.equal(parse([], { POD_NAMESPACE: 'from-env' }, 'from-pod').namespace, 'from-pod')
  t.equal(parse([], { NAMESPACE: 'chosen', POD_NAMESPACE: 'from-env' }, 'from-pod').namespace, 'chosen')
  t.type(parseConfig([], {}).namespace, 'string', 'without a pod')
  t.strictSame(parse([], { HOME: '/home/me' }).kubeconfigs, ['/home/me/.kube/config'])
  t.strictSame(parse([], { HOME: '/h', KUBECONFIG: ['/a', '/b'].join(delimiter) }).kubeconfigs, ['/a', '/b'])
})

t.test('addresses are shown as they are typed', async (t) => {
  for (const text of ['0.0.0.0:8080', '[::1]:0', 'localhost:1']) {
    t.equal(formatAddress(parse([`--hook-addr=${text}`]).hookAddr), text)
  }
})

t.test('whatever is typed: a configuration, or one line that says what is wrong', async (t) => {
  const options = cases.map(({ option }) => `--${option}`)
  const variables = cases.map(({ option }) => option.toUpperCase().replaceAll('-', '_'))
  const junk = fc.oneof(fc.string({ unit: 'binary' }), fc.string(), fc.constantFrom('', '\n', '\u001b[31m', '--', '-'))
  const argument = fc.oneof(
    junk,
    fc.constantFrom(...options, '--help', '--version', '-h', '-V'),
    fc.tuple(fc.constantFrom(...options), junk).map(([option, text]) => `${option}=${text}`),
  )
  const env = fc.dictionary(fc.constantFrom(...variables), junk)
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(argument, { maxLength: 4 }), env, (argv, variables) => {
        try {
          return parse(argv, variables).maxConcurrentMigrations >= 1
        } catch (error) {
          if (!(error instanceof ConfigExit)) throw error
          if (error.exitCode === 0) return true
          return /^error: [^\p{Cc}]+$/u.test(error.message) && error.message.length < 600
        }
      }),
      { numRuns: 300 },
    ),
  )
})
