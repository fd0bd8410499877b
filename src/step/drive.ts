import { hostname } from 'node:os'
import type { BaseLogger } from 'pino'
import type { Announcer } from '../announcer.js'
import { goesOn } from '../api/commands.js'
import type { JsonObject, KubernetesObject, OwnerReference } from '../api/kubernetes.js'
import type { HookResponse } from '../api/metacontroller.js'
import { ABANDON_ANNOTATION, RELEASE_ANNOTATION } from '../api/names.js'
import type { Migration, MigrationStatus, ReplicaTopologySpec, ReplicaTopologyStatus } from '../api/replica-topology.js'
import { formatTime, parseTime } from '../api/time.js'
import { LeaseError, type LeaseStore } from '../clients/leases.js'
import { type MayastorClient, MayastorError } from '../clients/mayastor.js'
import type { Clock } from '../clock.js'
import { conditions, type NewCondition } from '../decide/conditions.js'
import { object } from '../decide/json.js'
import type { PolicyOptions } from '../decide/policy.js'
import { HookError } from '../hook-error.js'
import { spread } from '../spread.js'
import { type ActDeps, type Assignment, act } from './act.js'
import { isActive, type Journal } from './journal.js'
import { type SharedListing, sharedListing } from './listing.js'
import { type LoopDeps, type MoveLoop, moveLoop } from './loop.js'
import { type CallLog, type ObserverMetrics, observers } from './observer.js'
import type { View } from './preconditions.js'
import { sightings } from './sightings.js'
import { migrationStatus, type Observation, observation } from './status.js'
import type { Report } from './step.js'
import { transitionEvents } from './transitions.js'

/** The replica-topology hooks: observe one volume, take at most one step of its migration, report. */

export interface TopologyDeps {
  readonly mayastor: MayastorClient
  /** Undefined: no journal can be kept, so nothing is moved. */
  readonly leases: LeaseStore | undefined
  readonly clock: Clock
  readonly log: BaseLogger
  readonly metrics: LoopDeps['metrics'] & ObserverMetrics
  readonly options: PolicyOptions
  /** Names this process in the Leases, for people. Default: host and process id. */
  readonly identity?: string
  /** Where transitions are told. Default: nowhere. */
  readonly events?: Pick<Announcer, 'announce'>
  /** Runs what happens beside the hooks; simulated time has to know of it. Default: just runs it. */
  readonly task?: <T>(work: () => Promise<T>) => Promise<T>
}

export interface TopologyHooks {
  /** `log`: where this call is logged. Default: where everything is. */
  sync(body: unknown, signal: AbortSignal, log?: CallLog): Promise<HookResponse>
  finalize(body: unknown, signal: AbortSignal, log?: CallLog): Promise<HookResponse>
  readonly loop: MoveLoop
}

/** Half of the webhook's 15 s. */
const BUDGET_MS = 7_500
const REST_SECONDS = 300
/** Mayastor or the Leases cannot be reached. */
const RETRY_SECONDS = 30
/** A bracket open this long is reported. */
const BRACKET_ALARM_MS = 120_000
/** A ReplicaTopology being deleted this long is let go; the server's loop goes on cleaning up. */
const GIVE_UP_MS = 3_600_000

/** What a request says, read once. */
interface Request {
  readonly name: string
  readonly uid: string
  readonly spec: ReplicaTopologySpec
  readonly status: Partial<ReplicaTopologyStatus> | undefined
  readonly deletedAt: number | undefined
  readonly abandoned: boolean
  readonly release: string | undefined
  readonly owners: readonly OwnerReference[]
}

/** What one sync found out. */
interface Found {
  readonly observation: Observation
  readonly migration: MigrationStatus | undefined
  readonly totals: ReplicaTopologyStatus['totals']
  readonly conditions: readonly NewCondition[]
  readonly seconds: number | undefined
  /** Nothing of ours is left in Mayastor. */
  readonly clean: boolean
}

export function topologyHooks(deps: TopologyDeps): TopologyHooks {
  const { leases, clock, metrics, options, events } = deps
  const task = deps.task ?? ((work) => work())
  const listing = sharedListing({ ...deps, task })
  const observerFor = observers({ clock, metrics })
  const moving: ActDeps | undefined =
    leases === undefined
      ? undefined
      : {
          mayastor: deps.mayastor,
          leases,
          clock,
          sightings: sightings(clock),
          identity: deps.identity ?? `${hostname()}-${process.pid}`,
          observer: observerFor(deps.log),
        }

  const answer = async (
    body: unknown,
    finalizing: boolean,
    signal: AbortSignal,
    log: CallLog = deps.log,
  ): Promise<HookResponse> => {
    const request = readRequest(body)
    let found: Found
    try {
      const resting = !finalizing && (await isAtRest(request, listing))
      found =
        moving === undefined || resting
          ? await observe(request)
          : await step({ ...moving, observer: observerFor(log) }, request, finalizing, signal, log)
    } catch (error) {
      if (!(error instanceof MayastorError || error instanceof LeaseError)) throw error
      log.warn({ volume: request.spec.volumeID, cause: error.message }, 'the volume could not be observed')
      found = stale(request, error)
    }
    const letGo = finalizing && !found.clean && letsGo(request, clock.now())
    const { spec, status } = request
    const before = status?.migration
    events?.announce(transitionEvents({ topology: request, spec, before, after: found.migration, letGo }))
    const response = render(request, found, clock.now())
    return finalizing ? { ...response, finalized: found.clean || letGo } : response
  }

  const step = async (
    moving: ActDeps,
    request: Request,
    finalizing: boolean,
    signal: AbortSignal,
    log: CallLog,
  ): Promise<Found> => {
    const outcome = await act(moving, assignment(request, finalizing, options), BUDGET_MS, signal)
    const { view, journal, fence, report, seconds, failure } = outcome
    const { volumeID } = request.spec
    logStep(log, request, journal, report)
    if (failure !== undefined) {
      const { status, kind, details } = failure
      log.warn({ volume: volumeID, status, kind, details }, failure.message)
    }
    const alarms: NewCondition[] = [...heldBy(journal, request.name), ...foreignCordons(journal)]
    const open = fence.volume === volumeID
    if (open && fence.openedAt !== undefined && clock.now() - fence.openedAt > BRACKET_ALARM_MS) {
      const message = 'cordons of this move have been in place for more than 2 minutes'
      alarms.push({ type: 'BracketOpen', status: 'True', reason: 'Unresolved', message })
    }
    return {
      observation: observation(view, request.spec, isActive(journal)),
      migration: journalledMigration(request, journal, report, view, clock.now()),
      totals: totalsOf(request, journal),
      conditions: [observed(view), ...remoteTarget(view), ...alarms],
      seconds,
      clean: !isActive(journal) && !open,
    }
  }

  return {
    sync: (body, signal, log) => answer(body, false, signal, log),
    finalize: (body, signal, log) => answer(body, true, signal, log),
    loop: moveLoop({ act: moving, clock, log: deps.log, metrics, options, task }),
  }

  async function observe(request: Request): Promise<Found> {
    const { volumes, view: shared, journals } = await listing(reportedAt(request))
    const { volumeID } = request.spec
    // A volume made since the listing was read is not gone.
    const view: View = { ...shared, volume: volumes.get(volumeID) ?? (await deps.mayastor.volume(volumeID)) }
    const journal = journals.get(volumeID)
    const { migration } = request.spec
    const declined =
      leases === undefined && migration !== undefined ? decline(request, migration, clock.now()) : undefined
    return {
      observation: observation(view, request.spec, isActive(journal)),
      migration: declined ?? journalledMigration(request, journal, undefined, view, clock.now()),
      totals: totalsOf(request, journal),
      conditions: [observed(view), ...remoteTarget(view)],
      seconds: undefined,
      clean: true,
    }
  }
}

function readRequest(body: unknown): Request {
  const parent = object(object(body)?.['parent']) as KubernetesObject | undefined
  const name = parent?.metadata?.name
  if (parent === undefined || typeof name !== 'string')
    throw new HookError(400, 'the request has no parent with a name')
  const spec = parent.spec as unknown as ReplicaTopologySpec | undefined
  if (typeof spec?.volumeID !== 'string' || spec.volumeID === '') {
    throw new HookError(400, 'the parent has no spec.volumeID')
  }
  const { deletionTimestamp, annotations, uid = '', ownerReferences: owners = [] } = parent.metadata ?? {}
  return {
    name,
    uid,
    spec,
    status: object(parent.status) as unknown as Partial<ReplicaTopologyStatus> | undefined,
    deletedAt: deletionTimestamp === undefined ? undefined : parseTime(deletionTimestamp),
    abandoned: annotations?.[ABANDON_ANNOTATION] === 'true',
    release: annotations?.[RELEASE_ANNOTATION],
    owners,
  }
}

/** Nothing is wanted and nothing runs, so that the shared listing is enough. */
async function isAtRest(request: Request, listing: SharedListing): Promise<boolean> {
  const { spec, status } = request
  const last = status?.migration
  const over = last === undefined || last.endedAt !== undefined
  const wanted = spec.migration !== undefined && (spec.migration.id !== last?.id || !over)
  if (wanted || !over || last?.reason === 'Preserved') return false
  return !isActive((await listing(reportedAt(request))).journals.get(spec.volumeID))
}

/** When the last thing happened that status tells of: times are written to the second, so one later. */
function reportedAt({ status }: Request): number {
  const endedAt = status?.migration?.endedAt
  return endedAt === undefined ? 0 : (parseTime(endedAt) ?? 0) + 1000
}

function assignment({ name, spec, status, release }: Request, finalizing: boolean, options: PolicyOptions): Assignment {
  return {
    volumeID: spec.volumeID,
    migration: finalizing ? undefined : spec.migration,
    known: status?.migration?.started === true && status.migration.id === spec.migration?.id,
    finalizing,
    release,
    bracketOnly: false,
    abandoned: false,
    topology: name,
    policy: spec.policy,
    preservationMode: options.preservationMode,
    dryRun: options.dryRun,
    clusterLimit: options.maxConcurrentMigrations,
    totals: status?.totals ?? { succeeded: 0, failed: 0, aborted: 0 },
  }
}

function journalledMigration(
  request: Request,
  journal: Journal | undefined,
  report: Report | undefined,
  view: View,
  now: number,
): MigrationStatus | undefined {
  const added = view.volume?.replicas.find((replica) => replica.uuid === journal?.move.added)
  const { migration } = request.spec
  // Analyzing: the migration is wanted, and no journal speaks of it yet.
  if (report !== undefined && migration !== undefined && !isActive(journal) && journal?.id !== migration.id) {
    const { id, direction, replicas } = migration
    return { id, direction, ...report, started: false, replicasMoved: 0, replicasTotal: replicas.length }
  }
  return (
    migrationStatus(journal, report, added?.synced ? 100 : added?.rebuildPercent) ??
    lost(request.status?.migration, now)
  )
}

/** Without a journal nothing runs: what status still says of it is closed. */
function lost(last: MigrationStatus | undefined, now: number): MigrationStatus | undefined {
  if (last === undefined || last.endedAt !== undefined) return last
  const endedAt = formatTime(now)
  return last.phase === 'Analyzing'
    ? { ...last, phase: 'Aborted', reason: 'Cancelled', message: 'withdrawn before anything was touched', endedAt }
    : { ...last, phase: 'Failed', reason: 'JournalLost', message: 'the journal of the migration is gone', endedAt }
}

function decline(request: Request, { id, direction, replicas }: Migration, now: number): MigrationStatus {
  const last = request.status?.migration
  if (last?.id === id && last.endedAt !== undefined) return last
  return {
    id,
    direction,
    phase: 'Aborted',
    reason: 'NoJournal',
    message: 'the operator has no access to Leases; it recommends and never moves',
    started: false,
    replicasMoved: 0,
    replicasTotal: replicas.length,
    endedAt: formatTime(now),
    attempts: (last?.attempts ?? 0) + 1,
  }
}

function totalsOf(request: Request, journal: Journal | undefined): ReplicaTopologyStatus['totals'] {
  return journal?.totals ?? request.status?.totals ?? { succeeded: 0, failed: 0, aborted: 0 }
}

function observed({ volume }: View): NewCondition {
  return volume === undefined
    ? { type: 'Observed', status: 'False', reason: 'VolumeGone', message: 'Mayastor knows no such volume' }
    : { type: 'Observed', status: 'True', reason: 'Observed', message: 'read from Mayastor' }
}

/** A single replica that moved leaves the target where it is until the next publish: I/O crosses the network. */
function remoteTarget({ volume }: View): readonly NewCondition[] {
  const [replica, ...others] = volume?.replicas ?? []
  const target = volume?.published ? volume.target : undefined
  if (replica?.node === undefined || others.length > 0 || target === undefined || target.node === replica.node)
    return []
  const message = `the only replica is on ${replica.node}, the target stays on ${target.node} until the next publish`
  return [{ type: 'RemoteTarget', status: 'True', reason: 'SingleReplicaMoved', message }]
}

function heldBy(journal: Journal | undefined, name: string): readonly NewCondition[] {
  const held = isActive(journal) ? journal.held : undefined
  if (held === undefined) return []
  const next = goesOn(name, held.forPerson ? held.id : undefined)
  return [{ type: 'Held', status: 'True', reason: held.reason, message: `${held.message}; ${next}` }]
}

/** Somebody cordoned a pool while we did: what was ours is theirs, and stays. */
function foreignCordons(journal: Journal | undefined): readonly NewCondition[] {
  const pools = journal?.leftCordoned ?? []
  if (pools.length === 0) return []
  const message = `cordoned by somebody else during a move, and left so: ${pools.join(', ')}`
  return [{ type: 'PoolsLeftCordoned', status: 'True', reason: 'CordonedMeanwhile', message }]
}

/** Mayastor or the Leases are away: what was known stays, and says that it is old. */
function stale({ status }: Request, error: MayastorError | LeaseError): Found {
  const reason = error instanceof LeaseError ? 'LeasesUnavailable' : 'MayastorUnavailable'
  const who = error instanceof LeaseError ? 'the Leases of the operator' : 'Mayastor'
  const { tier = 'Unknown', volume, replicas = [], refusals = [] } = status ?? {}
  return {
    observation: { tier, ...(volume === undefined ? {} : { volume }), replicas, refusals },
    migration: status?.migration,
    totals: status?.totals ?? { succeeded: 0, failed: 0, aborted: 0 },
    conditions: [
      { type: 'Observed', status: 'Unknown', reason, message: `${who} cannot be read; this is the last observation` },
    ],
    seconds: RETRY_SECONDS,
    clean: false,
  }
}

function letsGo({ abandoned, deletedAt }: Request, now: number): boolean {
  return abandoned || (deletedAt !== undefined && now - deletedAt > GIVE_UP_MS)
}

function render({ uid, status: previous }: Request, found: Found, now: number): HookResponse {
  const { observation, migration, totals } = found
  const status: ReplicaTopologyStatus = {
    ...observation,
    ...(migration === undefined ? {} : { migration }),
    totals,
    conditions: conditions(found.conditions, previous as JsonObject | undefined, now),
  }
  return {
    status: status as unknown as JsonObject,
    children: [],
    resyncAfterSeconds: found.seconds ?? spread(REST_SECONDS, uid),
  }
}

function logStep(log: CallLog, request: Request, journal: Journal | undefined, report: Report | undefined): void {
  const before = request.status?.migration
  if (report === undefined || (before?.phase === report.phase && before.reason === report.reason)) return
  const { volumeID: volume } = request.spec
  log.info({ volume, id: request.spec.migration?.id ?? journal?.id, ...report }, 'step')
}
