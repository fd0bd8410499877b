import t, { type Test } from 'tap'
import type { TSchema } from 'typebox'
import Value from 'typebox/value'
import type { KubernetesObject } from '../../src/api/kubernetes.js'
import { TOPOLOGY_KEY } from '../../src/api/names.js'
import { ReplicaTopologySpec } from '../../src/api/replica-topology.js'
import { StoragePolicyStatus } from '../../src/api/storage-policy.js'
import { type PolicyHookResult, runPolicyHook } from '../../src/decide/hook.js'
import type { PolicyOptions } from '../../src/decide/policy.js'
import { toWire } from '../../src/wire.js'
import { fakePrometheus, NOW_MS, OPTIONS, policyRequest, pvName, type RequestSetup } from '../builders.js'

/** Keys by which Metacontroller merges a list as a map, so that order and duplicates are lost. */
const MERGE_KEYS = ['containerPort', 'port', 'mountPath', 'name', 'uid', 'ip', 'path']

type Request = ReturnType<typeof policyRequest>
type Sent = KubernetesObject & { readonly metadata: { readonly name: string } }

export interface RunSetup extends RequestSetup {
  readonly now?: number
  readonly options?: Partial<PolicyOptions>
  readonly failures?: Parameters<typeof fakePrometheus>[1]
}

export interface Answer extends PolicyHookResult {
  readonly request: Request
  readonly status: StoragePolicyStatus
  /** What leaves the process. */
  readonly bytes: string
  readonly children: ReadonlyMap<string, ReplicaTopologySpec>
  /** Throws where the answer has no such child. */
  readonly spec: (id: string) => ReplicaTopologySpec
  /** `Type=Status Reason` of each condition. */
  readonly conditions: readonly string[]
}

/** One sync of a made-up world. Whatever the answer says, it must pass Metacontroller and the API server. */
export function run(setup: RunSetup = {}): Promise<Answer> {
  const iops = Object.fromEntries(
    (setup.volumes ?? []).flatMap(({ id, iops }) => (iops === undefined ? [] : [[pvName(id), iops]])),
  )
  return ask(policyRequest(setup), iops, setup)
}

export async function ask(
  request: Request,
  iops: Parameters<typeof fakePrometheus>[0],
  { now = NOW_MS, options, failures }: Pick<RunSetup, 'now' | 'options' | 'failures'> = {},
): Promise<Answer> {
  const before = JSON.stringify(request)
  const result = await runPolicyHook('sync', request, {
    prometheus: fakePrometheus(iops, failures),
    now,
    options: { ...OPTIONS, ...options },
  })
  if (JSON.stringify(request) !== before) throw new Error('the request was changed')
  return answerOf(request, result)
}

export function answerOf(request: Request, result: PolicyHookResult): Answer {
  const { response } = result
  const bytes = toWire(response)
  const status = response.status as unknown as StoragePolicyStatus
  assertFits(StoragePolicyStatus, status, 'status')
  const children = new Map<string, ReplicaTopologySpec>()
  for (const child of response.children) {
    const { apiVersion, kind, metadata, spec, ...more } = child as unknown as Sent
    if (Object.keys(more).length > 0 || Object.keys(metadata).join() !== 'name' || apiVersion === undefined) {
      throw new Error(`a child with other fields than ours: ${JSON.stringify(child)}`)
    }
    if (kind !== 'ReplicaTopology' || children.has(metadata.name)) throw new Error(`${kind} ${metadata.name} twice`)
    assertFits(ReplicaTopologySpec, spec, metadata.name)
    assertPlainLists(spec, metadata.name)
    children.set(metadata.name, spec as unknown as ReplicaTopologySpec)
  }
  return {
    ...result,
    request,
    status,
    bytes,
    children,
    spec: (id) => {
      const spec = children.get(pvName(id))
      if (spec === undefined) throw new Error(`the answer has no child for ${id}`)
      return spec
    },
    conditions: status.conditions.map(({ type, status, reason }) => `${type}=${status} ${reason}`),
  }
}

/** The next request when Metacontroller has applied the answer: statuses stay as they were observed. */
export function applied({ request, response }: Answer): Request {
  const observed = request.children[TOPOLOGY_KEY] ?? {}
  const children = Object.fromEntries(
    response.children.map((child) => {
      const { metadata, spec } = child as unknown as Sent
      const before = observed[metadata.name]
      const deleting = before?.metadata?.deletionTimestamp !== undefined
      return [metadata.name, before === undefined ? child : deleting ? before : { ...before, spec }]
    }),
  )
  const parent = { ...request.parent, status: { ...response.status, observedGeneration: 1 } }
  // As through the API server: nothing is shared with the answer, and keys are sorted.
  return JSON.parse(
    JSON.stringify({ ...request, parent, children: { [TOPOLOGY_KEY]: children } } as unknown as Request),
  )
}

/** Fits the schema of the CRD, and has no field the API server would prune. */
function assertFits(schema: TSchema, value: unknown, name: string): void {
  const [error] = Value.Errors(schema, value)
  if (error !== undefined) throw new Error(`${name}${error.instancePath}: ${error.message}`)
  if (JSON.stringify(Value.Clean(schema, structuredClone(value))) !== JSON.stringify(value)) {
    throw new Error(`${name} has fields that are not in the schema: ${JSON.stringify(value)}`)
  }
}

function assertPlainLists(value: unknown, name: string): void {
  if (typeof value !== 'object' || value === null) return
  for (const entry of Object.values(value)) assertPlainLists(entry, name)
  if (!Array.isArray(value) || value.length === 0) return
  const key = MERGE_KEYS.find((key) => value.every((entry) => typeof entry === 'object' && key in entry))
  if (key !== undefined) throw new Error(`${name} has a list that is merged by ${key}`)
}

/** Runs a table of setups; `check` says what is wanted of each answer. */
export function table<C extends RunSetup>(
  title: string,
  cases: Readonly<Record<string, C>>,
  check: (answer: Answer, c: C, t: Test) => void,
): void {
  t.test(title, async (t) => {
    for (const [name, c] of Object.entries(cases)) {
      await t.test(name, async (t) => check(await run(c), c, t as Test))
    }
  })
}
