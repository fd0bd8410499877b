import type { ApiException, KubeConfig } from '@kubernetes/client-node'
import type { KubernetesObject } from '../api/kubernetes.js'
import { GROUP, VERSION } from '../api/names.js'
import { withDeadline } from '../clients/kubernetes.js'
import { type ExplainError, forbidden, notServed, unreachable } from './errors.js'

/** What `explain` reads of a cluster. Everything rejects with ExplainError. */
export interface ClusterReader {
  /** Undefined: there is none of this name. */
  topology(name: string): Promise<KubernetesObject | undefined>
  topologies(): Promise<readonly KubernetesObject[]>
  policies(): Promise<readonly KubernetesObject[]>
  claim(namespace: string, name: string): Promise<KubernetesObject | undefined>
  volume(name: string): Promise<KubernetesObject | undefined>
}

/** Objects asked for at once, as kubectl does. */
const PAGE = 500
const CALL_TIMEOUT_MS = 30_000

interface Page {
  readonly metadata?: { readonly continue?: string }
  readonly items: readonly KubernetesObject[]
}

/** Through the current context of `config`. */
export async function clusterReader(config: KubeConfig): Promise<ClusterReader> {
  const kubernetes = await import('@kubernetes/client-node')
  const custom = config.makeApiClient(kubernetes.CustomObjectsApi)
  const core = config.makeApiClient(kubernetes.CoreV1Api)
  const deadline = withDeadline(kubernetes, CALL_TIMEOUT_MS)
  const server = config.getCurrentCluster()?.server ?? 'nowhere'

  const failure = (error: unknown): ExplainError => {
    if (!(error instanceof kubernetes.ApiException)) return unreachable(server, error)
    const said = messageOf(error)
    if (error.code === 401) return forbidden(`${server} does not accept the credentials of this context`)
    if (error.code === 403) return forbidden(said ?? 'the API server forbids it')
    if (isNotServed(error)) return notServed()
    return unreachable(server, new Error(said ?? `HTTP ${error.code}`))
  }
  const one = async (work: Promise<unknown>): Promise<KubernetesObject | undefined> => {
    try {
      return (await work) as KubernetesObject
    } catch (error) {
      if (error instanceof kubernetes.ApiException && error.code === 404 && !isNotServed(error)) return undefined
      throw failure(error)
    }
  }
  const all = async (plural: string): Promise<readonly KubernetesObject[]> => {
    for (let attempts = 1; ; attempts++) {
      try {
        const items: KubernetesObject[] = []
        let token: string | undefined
        do {
          const _continue = token === undefined ? {} : { _continue: token }
          const query = { group: GROUP, version: VERSION, plural, limit: PAGE, ..._continue }
          const page = (await custom.listClusterCustomObject(query, deadline)) as Page
          items.push(...page.items)
          token = page.metadata?.continue || undefined
        } while (token !== undefined)
        return items
      } catch (error) {
        // The list took so long that the API server has forgotten where it began.
        if (error instanceof kubernetes.ApiException && error.code === 410 && attempts < 3) continue
        throw failure(error)
      }
    }
  }

  return {
    topology: (name) =>
      one(
        custom.getClusterCustomObject({ group: GROUP, version: VERSION, plural: 'replicatopologies', name }, deadline),
      ),
    topologies: () => all('replicatopologies'),
    policies: () => all('storagepolicies'),
    claim: (namespace, name) => one(core.readNamespacedPersistentVolumeClaim({ namespace, name }, deadline)),
    volume: (name) => one(core.readPersistentVolume({ name }, deadline)),
  }
}

/** A 404 of a kind that is not served is plain text; that of an object is a Status. */
const isNotServed = (error: ApiException<unknown>): boolean => error.code === 404 && statusOf(error) === undefined

const messageOf = (error: ApiException<unknown>): string | undefined => statusOf(error)?.message

function statusOf({ body }: ApiException<unknown>): { readonly message?: string } | undefined {
  try {
    const parsed: unknown = typeof body === 'string' ? JSON.parse(body) : body
    const status = parsed as { kind?: unknown; message?: string } | null | undefined
    return status?.kind === 'Status' ? status : undefined
  } catch {
    return undefined
  }
}
