import type { CoordinationV1Api, KubeConfig, V1Lease } from '@kubernetes/client-node'
import { GROUP } from '../api/names.js'
import type { Clock } from '../clock.js'

/**
 * Durable records with compare-and-swap: one Lease each in the operator's namespace. The journal of a move and the
 * fence are such records; what they hold is none of this file's business.
 */
export interface LeaseRecord {
  readonly name: string
  /** Who writes it, for people. */
  readonly holder: string
  /** Milliseconds since the epoch, by the writer's clock. A change is a sign of life; its value is never compared. */
  readonly renewedAt: number
  readonly data: string
}

export interface StoredLease extends LeaseRecord {
  /** Opaque; a swap succeeds only against the newest one. */
  readonly version: string
}

/** `conflict`: somebody else wrote, created or removed it since it was read; nothing was written. */
export type Swap = StoredLease | 'conflict'

/**
 * Rejects with LeaseError when the store cannot be reached or refuses access; then it is not known whether a write
 * happened, except that it can have happened only against the version given.
 */
export interface LeaseStore {
  get(name: string): Promise<StoredLease | undefined>
  /** All of the operator's, live, by name. */
  list(): Promise<readonly StoredLease[]>
  create(lease: LeaseRecord): Promise<Swap>
  replace(lease: LeaseRecord, version: string): Promise<Swap>
  remove(name: string, version: string): Promise<void>
}

export class LeaseError extends Error {
  override readonly name = 'LeaseError'
}

const DATA_ANNOTATION = `${GROUP}/data`
const OWNER_LABEL = 'app.kubernetes.io/managed-by'
const OWNER = 'smart-storage-operator'
/** How long a holder may be silent, for people who read the Lease; we judge by `renewedAt` standing still. */
const DURATION_SECONDS = 45

/** Keeps records in memory, with the same compare-and-swap: the embedded cluster's Leases. */
export function memoryLeases(): LeaseStore {
  const leases = new Map<string, StoredLease>()
  let version = 0
  const store = (lease: LeaseRecord): StoredLease => {
    const { name, holder, renewedAt, data } = lease
    const stored = { name, holder, renewedAt, data, version: String(++version) }
    leases.set(name, stored)
    return stored
  }
  return {
    get: async (name) => leases.get(name),
    list: async () => [...leases.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    create: async (lease) => (leases.has(lease.name) ? 'conflict' : store(lease)),
    replace: async (lease, expected) => (leases.get(lease.name)?.version === expected ? store(lease) : 'conflict'),
    remove: async (name, expected) => {
      if (leases.get(name)?.version === expected) leases.delete(name)
    },
  }
}

export interface KubernetesLeasesOptions {
  readonly config: KubeConfig
  readonly namespace: string
  readonly clock: Clock
  /** For each call, in ms. Default 3,000. */
  readonly timeoutMs?: number
}

/** Leases of the Kubernetes API: reads are live, writes carry the resourceVersion they were read at. */
export async function kubernetesLeases(options: KubernetesLeasesOptions): Promise<LeaseStore> {
  const { CoordinationV1Api, V1MicroTime, ApiException } = await import('@kubernetes/client-node')
  const api: CoordinationV1Api = options.config.makeApiClient(CoordinationV1Api)
  const { namespace, clock, timeoutMs = 3_000 } = options

  const body = (lease: LeaseRecord, version?: string): V1Lease => ({
    metadata: {
      name: lease.name,
      namespace,
      labels: { [OWNER_LABEL]: OWNER },
      annotations: { [DATA_ANNOTATION]: lease.data },
      ...(version === undefined ? {} : { resourceVersion: version }),
    },
    spec: {
      holderIdentity: lease.holder,
      leaseDurationSeconds: DURATION_SECONDS,
      renewTime: new V1MicroTime(lease.renewedAt),
    },
  })
  const read = (lease: V1Lease): StoredLease => ({
    name: lease.metadata?.name ?? '',
    holder: lease.spec?.holderIdentity ?? '',
    // The library leaves it the text it was, whatever its type says.
    renewedAt: new Date(lease.spec?.renewTime ?? 0).getTime(),
    data: lease.metadata?.annotations?.[DATA_ANNOTATION] ?? '',
    version: lease.metadata?.resourceVersion ?? '',
  })
  const code = (error: unknown) => (error instanceof ApiException ? error.code : undefined)
  const within = async <T>(what: string, work: Promise<T>): Promise<T> => {
    let cancel = () => {}
    const late = new Promise<never>((_, reject) => {
      cancel = clock.after(timeoutMs, () => reject(new LeaseError(`${what}: no answer within ${timeoutMs} ms`)))
    })
    try {
      return await Promise.race([work, late])
    } catch (error) {
      if (error instanceof LeaseError || code(error) === 404 || code(error) === 409) throw error
      const status = code(error)
      throw new LeaseError(`${what}: ${status === undefined ? 'no connection' : `HTTP ${status}`}`, { cause: error })
    } finally {
      cancel()
    }
  }
  const swap = async (what: string, work: Promise<V1Lease>): Promise<Swap> => {
    try {
      return read(await within(what, work))
    } catch (error) {
      if (code(error) === 409 || code(error) === 404) return 'conflict'
      throw error
    }
  }

  return {
    get: async (name) => {
      try {
        return read(await within(`get lease ${name}`, api.readNamespacedLease({ name, namespace })))
      } catch (error) {
        if (code(error) === 404) return undefined
        throw error
      }
    },
    list: async () => {
      const list = api.listNamespacedLease({ namespace, labelSelector: `${OWNER_LABEL}=${OWNER}` })
      return (await within('list leases', list)).items.map(read)
    },
    create: (lease) => swap(`create lease ${lease.name}`, api.createNamespacedLease({ namespace, body: body(lease) })),
    replace: (lease, version) =>
      swap(
        `replace lease ${lease.name}`,
        api.replaceNamespacedLease({ name: lease.name, namespace, body: body(lease, version) }),
      ),
    remove: async (name, version) => {
      await swap(
        `delete lease ${name}`,
        api
          .deleteNamespacedLease({ name, namespace, body: { preconditions: { resourceVersion: version } } })
          .then(() => ({})),
      )
    },
  }
}
