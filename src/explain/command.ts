import type { KubeConfig } from '@kubernetes/client-node'
import { Command, Option } from 'commander'
import type { KubernetesObject } from '../api/kubernetes.js'
import { parseArguments, Usage } from '../arguments.js'
import { kubeconfigPaths, loadKubeConfig } from '../clients/kubernetes.js'
import { type ClusterReader, clusterReader } from './cluster.js'
import { EXIT, ExplainError, nothing } from './errors.js'
import { type Explanation, explain, policyState } from './explanation.js'
import { findTopology } from './find.js'
import { FORMATS, type Format, print } from './print.js'

/**
 * `smart-storage-operator explain` and `kubectl storage-tier`: where a volume is, where it belongs, what holds it back,
 * and what comes next, as the operator wrote it into the cluster. Nothing is decided here.
 */

interface Options {
  readonly kubeconfig?: string
  readonly context?: string
  readonly namespace?: string
  readonly output: Format
}

export interface ExplainIo {
  readonly env: NodeJS.ProcessEnv
  readonly out: (text: string) => void
  readonly err: (text: string) => void
}

/** `program`: the command as it is typed. Resolves with the exit code. */
export async function runExplain(program: string, argv: readonly string[], io: ExplainIo): Promise<number> {
  try {
    const { name, options } = readArguments(program, argv)
    io.out(`${await explanation(name, options, io.env)}\n`)
    return 0
  } catch (error) {
    if (error instanceof Usage) {
      ;(error.exitCode === 0 ? io.out : io.err)(`${error.message}\n`)
      return error.exitCode
    }
    if (!(error instanceof ExplainError)) throw error
    io.err(`error: ${error.message}\n`)
    return error.exitCode
  }
}

async function explanation(name: string | undefined, options: Options, env: NodeJS.ProcessEnv): Promise<string> {
  const config = await connect(options, env)
  const reader = await clusterReader(config)
  const contextNamespace = config.getContextObject(config.getCurrentContext())?.namespace
  if (name === undefined) return overview(reader, options)
  const topology = await findTopology(reader, name, options.namespace ?? contextNamespace ?? 'default')
  const volume = explain(topology)
  const policies = await statesOf(reader, [volume])
  return print({ policies, volumes: [volume] }, options.output, true)
}

async function overview(reader: ClusterReader, { namespace, output }: Options): Promise<string> {
  const [topologies, policies] = await Promise.all([reader.topologies(), reader.policies()])
  const forPeople = output === 'table' || output === 'wide'
  if (topologies.length === 0 && forPeople) throw nothing(whyNone(policies))
  const volumes = topologies
    .map(explain)
    .filter(({ claim }) => namespace === undefined || claim?.namespace === namespace)
    .sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1))
  if (volumes.length === 0 && forPeople) throw nothing(`no volume of a claim in namespace ${namespace} is managed`)
  return print({ policies: policies.map(policyState), volumes }, output, false)
}

const orderOf = ({ claim, volume }: Explanation) => `${claim?.namespace ?? ''}/${claim?.name ?? ''}/${volume}`

function whyNone(policies: readonly KubernetesObject[]): string {
  if (policies.length === 0) return 'no volume is managed: there is no StoragePolicy'
  const [unready] = policies.map(policyState).filter(({ ready }) => !ready)
  if (unready !== undefined) {
    return `no volume is managed: StoragePolicy ${unready.name} is not ready (${unready.reason}): ${unready.message}`
  }
  return "no volume is managed: none of Mayastor's is of a storage class that a StoragePolicy names"
}

/** The policies of some volumes. Whoever may not read policies is told about the volumes all the same. */
async function statesOf(reader: ClusterReader, volumes: readonly Explanation[]) {
  const policies = await reader.policies().catch((error: unknown) => {
    if (error instanceof ExplainError) return []
    throw error
  })
  return policies.map(policyState).filter(({ name }) => volumes.some(({ policy }) => policy === name))
}

async function connect({ kubeconfig, context }: Options, env: NodeJS.ProcessEnv): Promise<KubeConfig> {
  const paths = kubeconfig === undefined ? kubeconfigPaths(env) : [kubeconfig]
  let config: KubeConfig | undefined
  try {
    // A file that is asked for has no substitute.
    config = await loadKubeConfig(paths, kubeconfig === undefined ? undefined : '')
  } catch (cause) {
    throw new ExplainError(EXIT.failed, `the kubeconfig cannot be used: ${(cause as Error).message}`, { cause })
  }
  if (config === undefined) {
    const where = paths.length === 0 ? '' : ` at ${paths.join(', ')}`
    throw new ExplainError(EXIT.failed, `there is no kubeconfig${where}: see --kubeconfig`)
  }
  if (context !== undefined) {
    if (config.getContextObject(context) === null) {
      const known = config.getContexts().map(({ name }) => name)
      throw new ExplainError(EXIT.failed, `the kubeconfig has no context ${context}, only ${known.join(', ')}`)
    }
    config.setCurrentContext(context)
  }
  if (config.getCurrentCluster() === null) {
    throw new ExplainError(EXIT.failed, 'the kubeconfig has no current context: see --context')
  }
  return config
}

const EXIT_CODES = `
Exit codes: 0 explained, ${EXIT.failed} the cluster cannot be read, ${EXIT.usage} the command line cannot be used, ${EXIT.nothing} nothing to explain: no such
claim or volume, or none that is managed.`

function readArguments(program: string, argv: readonly string[]): { name: string | undefined; options: Options } {
  const command = new Command(program)
    .usage('[options] [namespace/claim | claim | volume]')
    .description(
      'Why a volume is where it is: where it is, where it belongs, what holds it back, and what comes next. Without a name: every volume. A volume is named as its persistent volume, or by its uuid in Mayastor.',
    )
    .argument('[name]')
    .option('-n, --namespace <name>', 'namespace of a claim; without a name: only volumes of claims in it')
    .addOption(new Option('-o, --output <format>', 'how to print it').choices(FORMATS).default('table'))
    .option('--context <name>', 'context of the kubeconfig, in place of the current one')
    .option('--kubeconfig <file>', 'in place of KUBECONFIG and ~/.kube/config')
    .addHelpText('after', EXIT_CODES)
  const options = parseArguments<Options>(command, argv)
  return { name: command.args[0], options }
}
