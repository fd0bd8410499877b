import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { KubeConfig, RequestContext } from '@kubernetes/client-node'

const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token'

/**
 * Access to the Kubernetes API: from the first call on, the kubeconfig files that exist (the first wins, the others
 * complete it, as kubectl does), else the pod's service account; undefined when there is neither. Loading the library
 * takes half a second, so nothing is loaded before it is needed. Rejects, each time anew, when a file cannot be used.
 */
export function lazyKubeConfig(
  kubeconfigs: readonly string[],
  serviceAccountToken: string = SERVICE_ACCOUNT_TOKEN,
): () => Promise<KubeConfig | undefined> {
  let loaded: Promise<KubeConfig | undefined> | undefined
  return () => {
    loaded ??= loadKubeConfig(kubeconfigs, serviceAccountToken).catch((error: unknown) => {
      loaded = undefined
      throw error
    })
    return loaded
  }
}

/** Options of a call through the library that give it up after `timeoutMs`, connecting included. */
export function withDeadline(kubernetes: typeof import('@kubernetes/client-node'), timeoutMs: number) {
  const { httpApi } = kubernetes.createConfiguration()
  const send = (request: RequestContext) => {
    request.setSignal(AbortSignal.timeout(timeoutMs))
    return httpApi.send(request)
  }
  return { httpApi: { send } }
}

/** Kubeconfig files to look for, from KUBECONFIG or the home directory, as kubectl does. */
export function kubeconfigPaths(env: NodeJS.ProcessEnv): string[] {
  const { KUBECONFIG: listed = '', HOME: home = '' } = env
  if (listed.trim() !== '') return listed.split(delimiter).filter((path) => path !== '')
  return home.trim() === '' ? [] : [join(home, '.kube', 'config')]
}

/** As `lazyKubeConfig`, at once and anew. */
export async function loadKubeConfig(
  kubeconfigs: readonly string[],
  serviceAccountToken: string = SERVICE_ACCOUNT_TOKEN,
): Promise<KubeConfig | undefined> {
  const [first, ...others] = kubeconfigs.filter((path) => existsSync(path))
  if (first === undefined && !existsSync(serviceAccountToken)) return undefined
  const { KubeConfig } = await import('@kubernetes/client-node')
  const config = new KubeConfig()
  if (first === undefined) {
    config.loadFromCluster()
    return config
  }
  loadFile(config, first)
  for (const path of others) {
    const other = new KubeConfig()
    loadFile(other, path)
    config.mergeConfig(other, config.getCurrentContext() !== '')
  }
  return config
}

/** What a parser says of a file repeats parts of it, and there are tokens in this one: only its first line is kept. */
function loadFile(config: KubeConfig, path: string): void {
  try {
    config.loadFromFile(path)
  } catch (error) {
    const [firstLine] = (error as Error).message.split('\n')
    throw new Error(`${path}: ${firstLine}`)
  }
}
