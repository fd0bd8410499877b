import type { KubernetesObject } from '../api/kubernetes.js'
import type { CustomizeResponse, HookRequest, HookResponse, RelatedRule } from '../api/metacontroller.js'
import { API_VERSION, HOLD_LABEL, POLICY_KEY, PV_KEY, PVC_KEY, TOPOLOGY_KEY } from '../api/names.js'
import type { PrometheusClient } from '../clients/prometheus.js'
import { HookError } from '../hook-error.js'
import { decide } from './decide.js'
import { tierOf } from './demand.js'
import { classify, type Iops, iopsQueries } from './iops.js'
import { object } from './json.js'
import { observe, owner, readChildren, type World } from './observe.js'
import { type Policy, type PolicyOptions, readPolicy } from './policy.js'
import { render, renderNothing, renderRefusal } from './render.js'

export interface PolicyHookDeps {
  readonly prometheus: PrometheusClient
  /** Milliseconds since the epoch; the only clock of the whole decision. */
  readonly now: number
  readonly options: PolicyOptions
}

/** What a sync decided, for logs and metrics; measured numbers belong here and never into the answer. */
export interface PolicySummary {
  readonly policy: string
  readonly volumesByTier: Readonly<Record<string, number>>
  readonly reasons: Readonly<Record<string, number>>
  /** Of the volumes that should have series: how many have IOPS that are known, and why the others have not. */
  readonly iops: { readonly known: number; readonly unknown: Readonly<Record<string, number>> }
  /** Nothing new starts until a person has looked at what failed. */
  readonly breakerOpen: boolean
  /** Volumes whose decision differs from the one observed. */
  readonly changes: readonly {
    readonly volume: string
    readonly reason: string
    readonly tier?: string
    readonly message: string
    readonly iops?: number
  }[]
}

export interface PolicyHookResult {
  readonly response: HookResponse
  readonly summary: PolicySummary
}

/**
 * Answers a storage-policy sync or finalize. `body` is the parsed JSON of the request. Throws HookError: 400 where the
 * request is not one of Metacontroller's, 500 where a related kind is missing from it, so that nothing is changed.
 */
export async function runPolicyHook(
  hook: 'sync' | 'finalize',
  body: unknown,
  { prometheus, now, options }: PolicyHookDeps,
): Promise<PolicyHookResult> {
  const request = readRequest(body)
  const { parent } = request
  const children = [...readChildren(request.children[TOPOLOGY_KEY] ?? {}).values()]
  const summary: PolicySummary = {
    policy: parent.metadata?.name ?? '',
    volumesByTier: {},
    reasons: {},
    iops: { known: 0, unknown: {} },
    breakerOpen: false,
    changes: [],
  }
  if (hook === 'finalize') {
    const left = children.length > 0
    const message = left ? 'waiting for the ReplicaTopologies to finish what runs' : 'every ReplicaTopology is gone'
    const condition = { type: 'Ready', status: 'False' as const, reason: 'Deleting', message }
    const response = renderNothing(parent, 'Disabled', children, condition, now)
    return { response: { ...response, finalized: !left }, summary }
  }
  const policy = readPolicy(parent, options)
  if ('problems' in policy) {
    const condition = { type: 'Ready', status: 'False' as const, reason: 'InvalidSpec' }
    const message = policy.problems.join('; ')
    return { response: renderRefusal(parent, children, { ...condition, message }, now), summary }
  }
  for (const key of [PV_KEY, PVC_KEY, POLICY_KEY]) {
    if (object(request.related[key]) === undefined) throw new HookError(500, `related has no ${key}`)
  }
  const owning = owner(request, policy)
  if (owning !== policy.name) {
    const message = `storage class ${policy.spec.storageClassName} belongs to the older policy ${owning}`
    const condition = { type: 'Ready', status: 'False' as const, reason: 'Conflict', message }
    return { response: renderNothing(parent, 'Error', children, condition, now), summary }
  }
  const world = observe(request, policy)
  const iopsOf = await measure(world, policy, prometheus, now)
  const decisions = decide(world, iopsOf, now, policy, options)
  return {
    response: render(parent, world, decisions, now, policy),
    summary: summarize(summary.policy, world, decisions, iopsOf),
  }
}

/**
 * The related objects of every policy: PVs, policies, labelled claims, and DiskPools where their version is known. One
 * that is being deleted needs none, and nothing that is missing in the cluster can then keep it from going: Metacontroller
 * asks for related objects before it finalizes, and fails where it does not find their kind.
 */
export function customizePolicy(body: unknown, diskPoolApiVersion: string | undefined): CustomizeResponse {
  const parent = object(object(body)?.['parent'])
  if (parent === undefined) throw new HookError(400, 'the request has no parent')
  if (object(parent['metadata'])?.['deletionTimestamp'] !== undefined) return { relatedResources: [] }
  const relatedResources: RelatedRule[] = [
    { apiVersion: 'v1', resource: 'persistentvolumes' },
    {
      apiVersion: 'v1',
      resource: 'persistentvolumeclaims',
      labelSelector: { matchExpressions: [{ key: HOLD_LABEL, operator: 'Exists' }] },
    },
    { apiVersion: API_VERSION, resource: 'storagepolicies' },
  ]
  if (diskPoolApiVersion !== undefined) relatedResources.push({ apiVersion: diskPoolApiVersion, resource: 'diskpools' })
  return { relatedResources }
}

function readRequest(body: unknown): HookRequest {
  const request = object(body)
  if (request === undefined) throw new HookError(400, 'the body is not a JSON object')
  const parent = object(request['parent']) as KubernetesObject | undefined
  if (parent === undefined) throw new HookError(400, 'the request has no parent')
  if (typeof parent.metadata?.name !== 'string') throw new HookError(400, 'the parent has no metadata.name')
  if (parent.spec !== undefined && object(parent.spec) === undefined) {
    throw new HookError(400, 'the parent has a spec that is not an object')
  }
  const children = object(request['children'])
  if (object(children?.[TOPOLOGY_KEY]) === undefined) throw new HookError(400, `children has no ${TOPOLOGY_KEY}`)
  const related = object(request['related'])
  if (related === undefined) throw new HookError(400, 'the request has no related')
  return { parent, children, related, finalizing: request['finalizing'] === true } as HookRequest
}

async function measure(
  world: World,
  policy: Policy,
  prometheus: PrometheusClient,
  now: number,
): Promise<(pvName: string) => Iops> {
  const queries = iopsQueries(policy.spec.samplingWindow, policy.spec.queries)
  if (world.volumes.length === 0) {
    return () => ({ kind: 'unknown', reason: 'NoSeries', message: 'Prometheus was not asked.' })
  }
  return classify(queries, await prometheus.signals(queries, now), now)
}

function summarize(
  policy: string,
  world: World,
  { decisions, metrics, trip }: ReturnType<typeof decide>,
  iopsOf: (pvName: string) => Iops,
): PolicySummary {
  const volumesByTier: Record<string, number> = { NVMe: 0, SATA: 0, Mixed: 0, Unknown: 0 }
  const reasons: Record<string, number> = {}
  const unknown: Record<string, number> = {}
  const changes: PolicySummary['changes'][number][] = []
  for (const { volume, tier, reason, message, unknownIops } of decisions) {
    const current = tierOf(volume.child?.status?.replicas ?? [], world.pools)
    volumesByTier[current] = (volumesByTier[current] ?? 0) + 1
    reasons[reason] = (reasons[reason] ?? 0) + 1
    if (unknownIops !== undefined) unknown[unknownIops] = (unknown[unknownIops] ?? 0) + 1
    const before = volume.child?.spec.decision
    if (before?.reason === reason && before.tier === tier) continue
    const measured = iopsOf(`pvc-${volume.volumeID}`)
    changes.push({
      volume: volume.name,
      reason,
      ...(tier === undefined ? {} : { tier }),
      message,
      ...(measured.kind === 'known' ? { iops: measured.iops } : {}),
    })
  }
  const iops = { known: metrics.expected - metrics.unknown, unknown }
  return { policy, volumesByTier, reasons, iops, breakerOpen: trip !== undefined, changes }
}
