import type { KubeConfig } from '@kubernetes/client-node'
import { DEFAULT_DISKPOOL_API_VERSION, DISKPOOL_GROUP } from '../api/names.js'
import type { Clock } from '../clock.js'
import { withDeadline } from './kubernetes.js'

/** Versions Mayastor has published, the preferred one first. */
const KNOWN_VERSIONS = ['v1beta3', 'v1beta2', 'v1beta1', 'v1alpha1']
const RESOURCE = 'diskpools'
/** Customize is called from inside Metacontroller's informers, with a timeout of 3 s. */
const FIRST_ANSWER_MS = 2_000
const CALL_DEADLINE_MS = 5_000
/** Mayastor may be installed, upgraded or removed at any time; Metacontroller keeps an answer for 20 minutes. */
const RECHECK_MS = 30_000

/** An apiVersion such as `openebs.io/v1beta3`; `absent`: the API server answered, the CRD is not there. */
export type DiskPoolDiscovery = string | 'absent' | 'unreachable'

/** What the API server says about itself. Both reject when it cannot be asked. */
export interface Discovery {
  /** Served versions of a group, the preferred one first; empty when there is no such group. */
  versions(group: string): Promise<readonly string[]>
  /** Plural names of the resources of a group version. */
  resources(group: string, version: string): Promise<readonly string[]>
}

/** Finds the newest known version that is served and has DiskPools, else any that has them. Never rejects. */
export async function discoverDiskPools(discovery: Discovery): Promise<DiskPoolDiscovery> {
  try {
    const served = await discovery.versions(DISKPOOL_GROUP)
    const known = KNOWN_VERSIONS.filter((version) => served.includes(version))
    for (const version of new Set([...known, ...served])) {
      const resources = await discovery.resources(DISKPOOL_GROUP, version)
      if (resources.includes(RESOURCE)) return `${DISKPOOL_GROUP}/${version}`
    }
    return 'absent'
  } catch {
    return 'unreachable'
  }
}

export interface DiskPoolVersion {
  /**
   * The apiVersion to ask for DiskPools with; undefined: there are none to ask for (the whole policy would fail).
   * Waits up to 2 s for the first discovery; while the API server cannot be asked, the version of current Mayastor.
   */
  current(): Promise<string | undefined>
  start(): void
  stop(): void
}

/** Keeps asking: Mayastor may come, go, or be upgraded. */
export function diskPoolVersion(deps: {
  /** Configured version: nothing is asked. */
  fixed: string | undefined
  discover: () => Promise<DiskPoolDiscovery>
  clock: Clock
  /** Called after each discovery; `changed` when it differs from the one before. */
  onResult?: (result: DiskPoolDiscovery, changed: boolean) => void
}): DiskPoolVersion {
  const { fixed, discover, clock, onResult } = deps
  let last: DiskPoolDiscovery | undefined = fixed
  let started = false
  let stopped = false
  let cancel = () => {}
  let announce = () => {}
  const first = new Promise<void>((resolve) => {
    announce = resolve
  })

  const check = async (): Promise<void> => {
    const result = await discover().catch((): DiskPoolDiscovery => 'unreachable')
    if (stopped) return
    const found = isVersion(last)
    onResult?.(result, result !== last)
    // An API server that is away for a moment does not change what it serves.
    if (!(found && result === 'unreachable')) last = result
    announce()
    cancel = clock.after(RECHECK_MS, () => void check())
  }

  return {
    async current() {
      if (last === undefined) await within(first, clock, FIRST_ANSWER_MS)
      if (last === 'absent') return undefined
      return isVersion(last) ? last : DEFAULT_DISKPOOL_API_VERSION
    },
    start() {
      if (started || fixed !== undefined) return
      started = true
      void check()
    },
    stop() {
      stopped = true
      cancel()
    },
  }
}

/** Discovery through the Kubernetes client; each request has 5 s. */
export function kubeDiscovery(kubeConfig: () => Promise<KubeConfig | undefined>): Discovery {
  const client = async () => {
    const config = await kubeConfig()
    if (config === undefined) throw new Error('no access to a Kubernetes API server is configured')
    const kubernetes = await import('@kubernetes/client-node')
    return { config, options: withDeadline(kubernetes, CALL_DEADLINE_MS), kubernetes }
  }
  return {
    async versions(group) {
      const { config, options, kubernetes } = await client()
      const { groups } = await config.makeApiClient(kubernetes.ApisApi).getAPIVersions({}, options)
      const found = groups.find(({ name }) => name === group)
      if (found === undefined) return []
      const versions = found.versions.map(({ version }) => version)
      const preferred = found.preferredVersion?.version
      return preferred === undefined ? versions : [...new Set([preferred, ...versions])]
    },
    async resources(group, version) {
      const { config, options, kubernetes } = await client()
      const list = await config
        .makeApiClient(kubernetes.CustomObjectsApi)
        .getAPIResources({ group, version }, options)
        .catch((error: unknown) => {
          // A version may go between the two questions.
          if (error instanceof kubernetes.ApiException && error.code === 404) return { resources: [] }
          throw error
        })
      return list.resources.map(({ name }) => name)
    },
  }
}

const isVersion = (result: DiskPoolDiscovery | undefined) => result?.startsWith(`${DISKPOOL_GROUP}/`) === true

async function within(promise: Promise<void>, clock: Clock, ms: number): Promise<void> {
  let cancel = () => {}
  const timeout = new Promise<void>((resolve) => {
    cancel = clock.after(ms, resolve)
  })
  await Promise.race([promise, timeout])
  cancel()
}
