import type { MayastorVolume } from '../api/mayastor.js'
import type { Tier } from '../api/names.js'
import type {
  MigrationStatus,
  ObservedReplica,
  ObservedVolume,
  ReplicaTopologySpec,
  ReplicaTopologyStatus,
} from '../api/replica-topology.js'
import { formatTime } from '../api/time.js'
import type { Journal } from './journal.js'
import { eligibleNodes, type View, volumeRefusals, zoneOf } from './preconditions.js'
import { phaseOf, type Report } from './step.js'

/** Longest message the schema takes. */
const MESSAGE_LIMIT = 1024

export type Observation = Pick<ReplicaTopologyStatus, 'tier' | 'volume' | 'replicas' | 'refusals'>

/**
 * The volume as people and deciding see it. Nothing in it moves by itself: sizes are those of the volume, shares and
 * progress come in steps of 10 %. While the operator itself moves the volume, what would refuse a move says nothing.
 */
export function observation(view: View, spec: Partial<ReplicaTopologySpec>, moving: boolean): Observation {
  const { volume } = view
  if (volume === undefined) {
    const gone = { state: 'Gone', published: false, numReplicas: 0, sizeBytes: 0, thin: false, allocatedPercent: 0 }
    return { tier: 'Unknown', volume: { ...gone, snapshots: 0, selfHeal: false }, replicas: [], refusals: [] }
  }
  const tiers = new Map((spec.pools ?? []).map(({ pool, tier }) => [pool, tier]))
  return {
    tier: tierOf(volume, tiers),
    volume: observedVolume(volume, view),
    replicas: volume.replicas.map(({ uuid: replica, pool, node, state, synced, rebuildPercent }): ObservedReplica => {
      const zone = node === undefined ? undefined : zoneOf(node, pool ?? '', view)
      return {
        replica,
        ...(pool === undefined ? {} : { pool }),
        ...(node === undefined ? {} : { node }),
        ...(zone === undefined ? {} : { zone }),
        state,
        synced,
        ...(rebuildPercent === undefined ? {} : { rebuildPercent: tens(rebuildPercent, Math.floor) }),
      }
    }),
    refusals: moving ? [] : volumeRefusals(view).map(({ reason, message }) => ({ reason, message })),
  }
}

/** The running or last migration, from its journal and what the last step reported. */
export function migrationStatus(
  journal: Journal | undefined,
  report: Report | undefined,
  rebuildPercent: number | undefined,
): MigrationStatus | undefined {
  if (journal === undefined) return undefined
  const { id, direction, move, end, held, replicasMoved, replicasTotal, startedAt, attempts, failures } = journal
  const preserved = journal.phase === 'Preserved'
  const { reason, message } =
    end ??
    held ??
    (preserved
      ? { reason: 'Preserved', message: 'preservation mode keeps the old replica beside the new one' }
      : (report ?? { reason: 'Started', message: 'the migration holds a slot' }))
  return {
    id,
    direction,
    phase: phaseOf(journal),
    reason,
    message: message.slice(0, MESSAGE_LIMIT),
    started: end?.started ?? true,
    replicasMoved,
    replicasTotal,
    ...(move.replica === ''
      ? {}
      : {
          current: {
            replica: move.replica,
            sourcePool: move.sourcePool,
            targetPool: move.targetPool,
            ...(move.added === undefined ? {} : { addedReplica: move.added }),
            ...(rebuildPercent === undefined ? {} : { rebuildPercent: tens(rebuildPercent, Math.floor) }),
          },
        }),
    startedAt: formatTime(startedAt),
    ...(end === undefined && !preserved ? {} : { endedAt: formatTime(end?.at ?? journal.progress.at) }),
    attempts,
    ...(failures === undefined || failures === 0 ? {} : { failures }),
    ...(held?.forPerson ? { holdId: held.id } : {}),
  }
}

function tierOf(volume: MayastorVolume, tiers: ReadonlyMap<string, Tier>): ReplicaTopologyStatus['tier'] {
  const found = new Set(volume.replicas.map(({ pool }) => tiers.get(pool ?? '')))
  const [first] = found
  if (first === undefined || found.has(undefined)) return 'Unknown'
  return found.size === 1 ? first : 'Mixed'
}

function observedVolume(volume: MayastorVolume, view: View): ObservedVolume {
  const { sizeBytes, thin, affinityGroup, encrypted, topology, target } = volume
  const allocated = Math.max(0, ...volume.replicas.map((replica) => replica.allocatedBytes))
  const nodes = eligibleNodes(volume, view)
  return {
    state: volume.state,
    published: volume.published,
    ...(volume.published && target !== undefined ? { targetNode: target.node } : {}),
    numReplicas: volume.numReplicas,
    sizeBytes,
    thin,
    allocatedPercent: thin && sizeBytes > 0 ? Math.min(100, tens((100 * allocated) / sizeBytes, Math.ceil)) : 100,
    snapshots: volume.snapshots,
    selfHeal: volume.selfHeal,
    ...(affinityGroup === undefined ? {} : { affinityGroup }),
    ...(encrypted === undefined ? {} : { encrypted }),
    ...(Object.keys(topology.poolLabels).length === 0 ? {} : { poolLabels: topology.poolLabels }),
    ...(nodes === undefined ? {} : { eligibleNodes: [...nodes].sort() }),
  }
}

/** To a multiple of ten: what changes often is reported coarsely. */
function tens(percent: number, round: (value: number) => number): number {
  return 10 * round(percent / 10)
}
