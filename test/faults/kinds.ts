import { OUTAGES } from '../../src/embedded/prometheus/server.js'
import type { FaultRun, Strike } from './run.js'
import type { FaultSpec } from './scenario.js'

/**
 * What can go wrong. Each is told of the moment it strikes at: which volume, which process, and the request that is
 * under way, whose course it may change. It answers whether it took effect there.
 */
type Fault = (run: FaultRun, spec: FaultSpec, strike: Strike) => boolean

const faults = {
  // the request itself
  'request lost': (_, __, { request }) => request.set({ kind: 'lost' }),
  'answer lost': (_, __, { request }) => request.set({ kind: 'answer lost' }),
  'connection reset': (_, __, { request }) => request.set({ kind: 'reset' }),
  'request late': (_, { forSeconds }, { request }) =>
    request.set({ kind: 'late', ms: Math.min(45, forSeconds) * 1000 }),
  'refused 503': (_, __, { request }) => request.set({ kind: 'answer', status: 503, error: 'Unavailable' }),
  'timed out 408': (_, __, { request }) => request.set({ kind: 'answer meanwhile', status: 408, error: 'Timeout' }),
  // the announcement
  'lease conflict': (_, __, { swap }) => swap.set('conflict'),
  'lease written, answer lost': (_, __, { swap }) => swap.set('answer lost'),
  'lease not written': (_, __, { swap }) => swap.set('lost'),
  'lease written late': (_, __, { swap }) => swap.set('late'),
  // the operator
  killed: (run, { forSeconds }, { process }) => run.kill(process, forSeconds),
  paused: (run, { forSeconds }, { process }) => run.pause(process, forSeconds),
  'stopped and started': (run, { forSeconds }, { process }) => run.terminate(process, forSeconds),
  // who calls it
  'sync repeated': (run, { pick }, { volume }) => run.replay(volume, pick, 0),
  'sync handled twice at once': (run, { pick }, { volume }) => run.replay(volume, pick, 0, 'everybody'),
  'sync late': (run, { pick, forSeconds }, { volume }) => run.replay(volume, pick, forSeconds * 1000),
  'stale caches': (run, { forSeconds }) => run.stale(forSeconds),
  'Metacontroller killed': (run, { forSeconds }) => run.killMetacontroller(forSeconds),
  // what it depends on
  'API server away': (run, { forSeconds }) => run.away('apiServer', forSeconds),
  'Mayastor away': (run, { forSeconds }) => run.away('mayastor', forSeconds),
  'Prometheus out of order': (run, { pick, forSeconds }) =>
    run.prometheusFails(OUTAGES[pick % OUTAGES.length] ?? 'down', forSeconds),
  // Mayastor
  'core restarts': (run, { forSeconds }) => run.restartCore(forSeconds),
  'slow core': (run, { forSeconds }) => run.slowCore(forSeconds),
  'node lost': (run, { pick, forSeconds }, { volume }) => run.loseNode(volume, pick, forSeconds),
  'target moves': (run, { pick }, { volume }) => run.moveTarget(volume, pick),
  'target lost': (run, { forSeconds }, { volume }) => run.loseTarget(volume, forSeconds),
  'etcd away': (run, { forSeconds }) => run.loseStore(forSeconds),
  'original faults': (run, { pick }, { volume }) => run.faultReplica(volume, 'original', pick, howLost(pick)),
  'source faults': (run, { pick }, { volume }) => run.faultReplica(volume, 'source', pick, howLost(pick)),
  'added faults': (run, { pick }, { volume }) => run.faultReplica(volume, 'added', pick, howLost(pick)),
  'added runs out of space': (run, { pick }, { volume }) => run.faultReplica(volume, 'added', pick, 'OutOfSpace'),
  'pool fills': (run, { pick, forSeconds }, { volume }) => run.fillPool(volume, pick, forSeconds),
  'pool faulted': (run, { pick, forSeconds }, { volume }) => run.breakPool(volume, pick, forSeconds),
  'pool exported': (run, { pick, forSeconds }, { volume }) => run.exportPool(volume, pick, forSeconds),
  'pool appears': (run, { pick }) => run.addPool(pick),
  'node appears': (run) => run.addNode(),
  'creation fails': (run, { forSeconds, pick }, { volume }) => run.armed('createFails', volume, forSeconds, pick),
  'attaching fails': (run, { forSeconds, pick }, { volume }) => run.armed('attachFails', volume, forSeconds, pick),
  'destroying fails': (run, { forSeconds, pick }, { volume }) => run.armed('destroyFails', volume, forSeconds, pick),
  'rebuild does not start': (run, { forSeconds, pick }, { volume }) =>
    run.armed('rebuildStartFails', volume, forSeconds, pick),
  'store dirty': (run, { forSeconds, pick }, { volume }) => run.armed('storeDirty', volume, forSeconds, pick),
  'write to etcd fails': (run, { forSeconds, pick }, { volume }) => run.armed('persistFails', volume, forSeconds, pick),
  'rebuild limit': (run, { forSeconds }) => run.limitRebuilds(forSeconds),
  'mixed versions': (run, { pick, forSeconds }) => run.mixVersions(pick, forSeconds),
  // people
  'node cordoned': (run, { pick, forSeconds }, { volume }) => run.cordonNode(volume, pick, forSeconds),
  'node drained': (run, { pick, forSeconds }, { volume }) => run.drainNode(volume, pick, forSeconds),
  'pool cordoned': (run, { pick, forSeconds }, { volume }) => run.cordonPool(volume, pick, forSeconds),
  'pool uncordoned': (run, { pick }) => run.uncordonPool(pick),
  'pool drained': (run, { pick, forSeconds }, { volume }) => run.drainPool(volume, pick, forSeconds),
  'pool relabelled': (run, { pick, forSeconds }, { volume }) => run.relabelPool(volume, pick, forSeconds),
  'scaled up': (run, _, { volume }) => run.scale(volume, +1),
  'scaled down': (run, _, { volume }) => run.scale(volume, -1),
  'snapshot taken': (run, { pick }, { volume }) => run.snapshot(volume, pick),
  'snapshot deleted': (run, { pick }, { volume }) => run.deleteSnapshot(volume, pick),
  'self-heal off': (run, { pick, forSeconds }, { volume }) => run.stopHealing(volume, pick, forSeconds),
  'data written': (run, { pick }, { volume }) => run.write(volume, pick),
  unpublished: (run, { pick, forSeconds }, { volume }) => run.unpublish(volume, forSeconds, pick),
  resized: (run, { pick }, { volume }) => run.resize(volume, pick),
  'volume at work': (run, { forSeconds }, { volume }) => run.occupy(volume, forSeconds),
  'volume deleted': (run, { pick }, { volume }) => run.deleteVolume(volume, pick),
  'volume created': (run, { pick }) => run.createVolume(pick),
  'policy deleted': (run, { forSeconds }, { volume }) => run.deletePolicy(volume, forSeconds),
  'policy disabled': (run, { forSeconds }, { volume }) => run.editPolicy(volume, { enabled: false }, forSeconds),
  'policy edited': (run, { forSeconds, pick }, { volume }) => run.editThresholds(volume, pick, forSeconds),
  'topology deleted': (run, _, { volume }) => run.deleteTopology(volume),
  'status lost': (run, _, { volume }) => run.loseStatus(volume),
  'IOPS turn': (run, _, { volume }) => run.turnLoad(volume),
} satisfies Record<string, Fault>

/** A replica that is gone comes back with what it missed, or has to be made anew. */
function howLost(pick: number): 'for good' | undefined {
  return pick % 2 === 0 ? undefined : 'for good'
}

export type Kind = keyof typeof faults
export const KINDS = Object.keys(faults) as readonly Kind[]

/** False: it could do nothing there. */
export function strike(run: FaultRun, spec: FaultSpec, at: Strike): boolean {
  return (faults[spec.kind] as Fault)(run, spec, at)
}

/** Kinds that change the course of a request or of a swap, and so need one of that sort to strike at. */
export const OF_REQUEST: ReadonlySet<Kind> = new Set<Kind>([
  'request lost',
  'answer lost',
  'connection reset',
  'request late',
  'refused 503',
  'timed out 408',
])
export const OF_SWAP: ReadonlySet<Kind> = new Set<Kind>([
  'lease conflict',
  'lease written, answer lost',
  'lease not written',
  'lease written late',
])
