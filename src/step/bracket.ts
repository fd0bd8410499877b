import type { MayastorPool } from '../api/mayastor.js'
import { NODE_LABEL_PREFIX } from '../api/names.js'
import type { MigrationReason } from '../api/reasons.js'
import { isActive, type Journal, type MayastorCall, type UnresolvedCall } from './journal.js'
import { clusterRefusal, type View } from './preconditions.js'
import { note, reportOf, rest, type Situation, type Step, wait } from './step.js'

/**
 * The bracket around a change of placement: the fence is taken, what is set in Mayastor is written into it first, and
 * whatever was set is gone before it is given back.
 */

/** Seconds until the next try while the fence is another move's. */
const QUEUE = 3
/** After this long without an operation running, a call whose answer was lost is over: one idle reconcile and more. */
export const RESOLVE_MS = 60_000

/** Takes the fence, unless Mayastor has something to heal that it would be in the way of. */
export function openBracket(journal: Journal, s: Situation): Step {
  const refusal = clusterRefusal(s.view, s.volumes, s.journals)
  return refusal === undefined ? takeFence(journal, s) : rest(journal, 'ClusterDegraded', refusal.message)
}

/** Takes the fence, or waits while another move has it. */
export function takeFence(journal: Journal | undefined, { fence, volumeID, now }: Situation): Step {
  if (fence.volume !== undefined) {
    const report = reportOf(journal, 'WaitingForFence', 'another move is changing placement; this one is next')
    return { kind: 'wait', report, seconds: QUEUE, ...(journal === undefined ? {} : { rests: true }) }
  }
  const report = reportOf(journal, 'Started', 'preparing to change placement')
  return { kind: 'takeFence', fence: { volume: volumeID, openedAt: now }, report }
}

/** The next thing to clear of what this bracket set, then the fence itself; undefined: the fence is not ours. */
export function closeBracket(s: Situation): Step | undefined {
  const { fence, view, journal } = s
  if (fence.volume !== s.volumeID) return undefined
  if (fence.call !== undefined) return resolveFence(fence.call, s)
  const left = new Set(journal?.leftCordoned)
  // Where the journal is gone, the fence alone says what may be ours.
  const announced = isActive(journal) ? new Set(journal.cordoned) : undefined
  for (const { pool: id, otherBits: before } of fence.intent?.pools ?? []) {
    const pool = view.pools.get(id)
    if (!pool?.cordon.replicas || announced?.has(id) === false) continue
    if (!hasNewBit(pool, before)) {
      return call(journal, s, { op: 'uncordonPool', pool: id }, 'Uncordoning', `uncordoning pool ${id}`)
    }
    // A bit we did not set means that somebody else cordoned the pool meanwhile: it is theirs now.
    if (isActive(journal) && !left.has(id)) return note({ ...journal, leftCordoned: [...left, id] })
  }
  const label = ownLabel(s)
  if (label !== undefined) {
    return call(journal, s, { op: 'uncordonNode', ...label }, 'Uncordoning', `uncordoning node ${label.node}`)
  }
  return { kind: 'releaseFence' }
}

/**
 * Takes the fence for a label of this volume that was left on a node, though no bracket of it is open: its record was
 * lost. The label says whose it is, and the journal of that volume was read live in this step.
 */
export function sweepLabel(s: Situation): Step | undefined {
  if (s.fence.volume === s.volumeID) return undefined
  const label = ownLabel(s)
  if (label === undefined) return undefined
  const step = takeFence(s.journal, s)
  return step.kind === 'takeFence' ? { ...step, fence: { ...step.fence, intent: { pools: [], label } } } : undefined
}

/** A label of ours for this volume that is on a node. */
function ownLabel({ view, volumeID }: Situation): { readonly node: string; readonly label: string } | undefined {
  for (const node of view.nodes.values()) {
    const label = node.cordonLabels.find((text) => text.startsWith(`${NODE_LABEL_PREFIX}${volumeID}-`))
    if (label !== undefined) return { node: node.id, label }
  }
  return undefined
}

/** The label that marks the node of a replica that is to go. */
export const labelOf = ({ id }: Pick<Journal, 'id'>): string => `${NODE_LABEL_PREFIX}${id}`

/** A call without an answer only waits until it is over; then the state decides what came of it. */
export function resolve(journal: Journal, call: UnresolvedCall, s: Situation): Step {
  if (!isOver(call, s)) return wait(journal, 'Unresolved', `the outcome of ${call.op} is not known yet`, 2)
  const { call: _, ...resolved } = journal
  if (call.op !== 'setReplicaCount') return note(resolved)
  return s.view.volume?.numReplicas === call.count
    ? note({ ...resolved, confirmedCount: call.count })
    : note({ ...resolved, refused: 'the call had no effect', refusedAt: s.now })
}

function resolveFence(call: UnresolvedCall, s: Situation): Step {
  const report = reportOf(s.journal, 'Unresolved', `the outcome of ${call.op} is not known yet`)
  if (!isOver(call, s)) return { kind: 'wait', report, seconds: 2 }
  const { call: _, ...fence } = s.fence
  return { kind: 'intend', fence, report }
}

/**
 * No operation runs, and 60 s have passed since this process knew of the call. Sooner where its effect shows, if nobody
 * else can have brought that about: a cordon that is set, or a label that is gone, which both are ours by name.
 */
function isOver(call: UnresolvedCall, { callAgeMs, view }: Situation): boolean {
  if (view.volume?.operation !== undefined) return false
  return callAgeMs >= RESOLVE_MS || isDone(call, view)
}

function isDone(call: UnresolvedCall, { pools, nodes }: View): boolean {
  switch (call.op) {
    case 'setReplicaCount':
    case 'uncordonPool':
      return false
    case 'cordonPool':
      return pools.get(call.pool)?.cordon.replicas === true
    case 'cordonNode':
      return nodes.get(call.node)?.cordonLabels.includes(call.label) === true
    case 'uncordonNode':
      return nodes.get(call.node)?.cordonLabels.includes(call.label) === false
  }
}

/** Announces a call, in the journal or, where there is none any more, in the fence. */
export function call(
  journal: Journal | undefined,
  { now }: Pick<Situation, 'now'>,
  request: MayastorCall,
  reason: MigrationReason,
  message: string,
): Step {
  const report = reportOf(journal, reason, message)
  if (!isActive(journal)) return { kind: 'call', journal: undefined, call: request, report }
  return { kind: 'call', journal: { ...journal, call: { ...request, sentAt: now } }, call: request, report }
}

/**
 * Pools that have to be cordoned so that Mayastor can place a replica on no other than the target. It places none on
 * those that it drains.
 */
export function poolsToCordon(target: string, holding: ReadonlySet<string | undefined>, view: View): MayastorPool[] {
  const others = [...view.pools.values()].filter((pool) => pool.id !== target && !holding.has(pool.node))
  return others.filter((pool) => !pool.cordon.replicas && !pool.draining)
}

function hasNewBit(pool: MayastorPool, before: string): boolean {
  const had = new Set(before.split(','))
  return otherBits(pool)
    .split(',')
    .some((bit) => bit !== '' && !had.has(bit))
}

/** The bits of a pool's cordon that are not ours, as a text. */
export function otherBits({ cordon }: MayastorPool): string {
  const { snapshots, restores, import: imports } = cordon
  return [snapshots && 'snapshots', restores && 'restores', imports && 'import'].filter(Boolean).join()
}
