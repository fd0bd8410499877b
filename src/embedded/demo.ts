#!/usr/bin/env node
import { realpathSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Command, InvalidArgumentError } from 'commander'
import { API_VERSION, DEFAULT_DISKPOOL_API_VERSION, type Direction } from '../api/names.js'
import type { MigrationStatus, ReplicaTopologySpec, ReplicaTopologyStatus } from '../api/replica-topology.js'
import type { StoragePolicyStatus } from '../api/storage-policy.js'
import { parseArguments, Usage } from '../arguments.js'
import { Checker, type CheckerLimits } from './checker.js'
import { EmbeddedCluster } from './cluster.js'
import {
  type DemoEvent,
  type Frame,
  isSettled,
  liveView,
  type MigrationRow,
  plainView,
  type Screen,
  type Summary,
  type TierRow,
  type View,
  type VolumeRow,
} from './demo-view.js'
import type { KubeObject } from './metacontroller/index.js'
import {
  buildScenario,
  COOLDOWN_MS,
  type DemoVolume,
  HISTORY_MS,
  MAX_CONCURRENT_MIGRATIONS,
  POLICY,
  POLICY_SPEC,
  type Scenario,
  WINDOW_MS,
} from './scenario.js'

/**
 * `npm run demo`: the operator's own hook server with everything around it simulated. What is shown of the operator is
 * what it wrote: ReplicaTopologies and the StoragePolicy. Loads, placement and safety come from the simulation's truth.
 */

const MINUTE_MS = 60_000
const START_MS = Date.UTC(2026, 0, 1)
/** Simulated time after which nothing new starts. */
const LIMIT_MS = 150 * MINUTE_MS
/** Simulated time to real time: while something moves, there is more to see. */
const SPEED = { moving: 90, still: 300 } as const
/** Nothing is waited for and nothing has happened for this long: it is over. */
const QUIET_MS = 6 * MINUTE_MS
/** For the moves that still run to end, and for what is swept after them. */
const DRAIN_MS = 60 * MINUTE_MS
const SWEEP_MS = 3 * MINUTE_MS
/** Real time after which nothing new starts and nothing is slowed down; and from there to the very end. */
const REAL_LIMIT_MS = 90_000
const DRAIN_REAL_MS = 20_000
/** Real time for everything to shut down. */
const CLOSE_REAL_MS = 1_500
const SAMPLE_MS = 30_000
const EVENTS_KEPT = 50
const DEFAULT_SEED = 1
/** Exit codes of a process ended by a signal, as shells report them. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const

/** Reasons that pass by themselves: the demo waits for what comes of them. */
const PASSING: readonly string[] = [
  'NotObserved',
  'YoungerThanWindow',
  'TooFewSamples',
  'Migrating',
  'MetricsIncomplete',
  'Cooldown',
  'BackOff',
  'ClusterDegraded',
  'VolumeNotHealthy',
  'OperationRunning',
  'WaitingForSlot',
]

/** Every volume has these for a while, or is counted elsewhere. */
const UNREMARKABLE: readonly string[] = ['NotObserved', 'Migrating']

export interface DemoOptions {
  readonly seed?: number
  /** Not slowed down. */
  readonly fast?: boolean
  /** Lines, on a terminal too. */
  readonly plain?: boolean
  readonly out?: Screen
  /** Ends the demo early, with exit code 130. */
  readonly signal?: AbortSignal
  /** Simulated time after which nothing new starts. */
  readonly limitMs?: number
  readonly limits?: Partial<CheckerLimits>
  /** Real time after which nothing new starts. */
  readonly realLimitMs?: number
  /** Called before anything starts: for a test to interfere. */
  readonly onCluster?: (cluster: EmbeddedCluster, scenario: Scenario) => void
}

export interface DemoResult {
  readonly exitCode: number
  /** Undefined when it was interrupted. */
  readonly summary: Summary | undefined
}

interface Topology {
  readonly spec: ReplicaTopologySpec
  readonly status: ReplicaTopologyStatus | undefined
}

/** Runs the demo to its end. Rejects when something other than the demo's subject is broken. */
export async function runDemo(options: DemoOptions = {}): Promise<DemoResult> {
  const { seed = DEFAULT_SEED, fast = false, out = process.stdout, signal = new AbortController().signal } = options
  const view = out.isTTY === true && options.plain !== true ? liveView(out) : plainView(out)
  const operatorStartMs = START_MS + HISTORY_MS
  const scenario = buildScenario(seed, operatorStartMs)
  const cluster = new EmbeddedCluster({
    startMs: START_MS,
    seed,
    options: { maxConcurrentMigrations: MAX_CONCURRENT_MIGRATIONS },
  })
  try {
    populate(cluster, scenario)
    const tiers = new Map<string, string>(scenario.pools.map(({ name, tier }) => [name, tier]))
    const limits = { maxMoving: MAX_CONCURRENT_MIGRATIONS, cooldownMs: COOLDOWN_MS, tierOf: tiers.get.bind(tiers) }
    const checker = new Checker(cluster.mayastor, { ...limits, ...options.limits })
    options.onCluster?.(cluster, scenario)
    const { limitMs = LIMIT_MS, realLimitMs = REAL_LIMIT_MS } = options
    const watch = new Watch({ cluster, scenario, checker, view, operatorStartMs, limitMs, fast })
    const run = play({ cluster, scenario, watch, checker, view, fast, signal, limitMs, realLimitMs })
    const summary = await notStuck(run, realLimitMs)
    view.close()
    if (summary === undefined) return { exitCode: SIGNALS.SIGINT, summary }
    view.summary(summary)
    const { violations, contract, problems } = summary
    return { exitCode: violations.length + contract.length + problems.length > 0 ? 1 : 0, summary }
  } finally {
    view.close()
    // Calls in the middle of a simulated wait would wait for good.
    await within(CLOSE_REAL_MS, cluster.stop())
  }
}

interface Play {
  readonly cluster: EmbeddedCluster
  readonly scenario: Scenario
  readonly watch: Watch
  readonly checker: Checker
  readonly view: View
  readonly fast: boolean
  readonly signal: AbortSignal
  readonly limitMs: number
  readonly realLimitMs: number
}

/** Undefined when it was interrupted. */
async function play({ cluster, scenario, watch, checker, view, fast, signal, limitMs, realLimitMs }: Play) {
  const realStartMs = performance.now()
  const realMs = () => performance.now() - realStartMs
  await cluster.start(HISTORY_MS)
  watch.begin()
  cluster.addPolicy(POLICY, POLICY_SPEC)
  cluster.startMetacontroller()
  view.draw(() => watch.frame())
  for (const volume of scenario.volumes) {
    if (volume.arrivesMinute === undefined) continue
    cluster.clock.after(volume.arrivesMinute * MINUTE_MS, () => {
      cluster.addVolume(volume)
      watch.note(`volume ${volume.name} was created`, volume)
    })
  }

  let dueMs = realMs()
  const pace = async (jumpMs: number) => {
    dueMs += jumpMs / watch.speed
    const waitMs = dueMs - realMs()
    // Time lost is not caught up with: after a pause nobody wants to see everything at once.
    if (waitMs < 0) dueMs = realMs()
    if (waitMs < 1 || signal.aborted || realMs() > realLimitMs) return
    await wait(waitMs, undefined, { signal }).catch(() => {})
  }
  const late = () => signal.aborted || realMs() > realLimitMs
  await cluster.run(limitMs, () => late() || watch.isOver(), fast ? undefined : pace)
  if (signal.aborted) return undefined
  const ended = watch.isOver()
    ? 'every volume is where it belongs, or held'
    : realMs() > realLimitMs
      ? `cut short after ${realLimitMs / 1000} s, this machine is busy or slow`
      : 'the simulated time was over'
  const figures = watch.figures()

  // Nothing new may start while it is looked at whether everything was left as it was found.
  watch.note('the policy is disabled: what runs is finished or undone, then the demo ends')
  watch.freeze()
  cluster.store.patch(policyRef, { spec: { enabled: false } })
  const stopNow = () => signal.aborted || realMs() > realLimitMs + DRAIN_REAL_MS
  await cluster.run(DRAIN_MS, () => stopNow() || !watch.isMoving(), fast ? undefined : pace)
  const problems: string[] = []
  if (signal.aborted) return undefined
  if (watch.isMoving()) {
    problems.push(`${watch.migrations().length} migrations did not end; counts and cordons at rest were not checked`)
  } else {
    await cluster.run(SWEEP_MS, stopNow)
    checker.atRest(cluster.clock.now())
  }
  if (signal.aborted) return undefined
  const { promoted, demoted } = watch.tally
  if (promoted + demoted === 0) problems.push('no volume was moved at all')
  const { violations, calls, errors } = cluster.metacontroller
  return {
    ...figures,
    ended,
    tally: { ...watch.tally },
    replicasMoved: watch.replicasMoved,
    elapsedMs: watch.elapsedMs,
    realMs: realMs(),
    volumes: scenario.volumes.length,
    mostMoving: checker.mostMoving,
    cap: MAX_CONCURRENT_MIGRATIONS,
    windowMinutes: WINDOW_MS / MINUTE_MS,
    mayastorWrites: cluster.mayastor.writes.length,
    hookCalls: calls.length,
    failedSyncs: errors.length,
    violations: checker.violations,
    contract: violations,
    problems,
  } satisfies Summary
}

const policyRef = { apiVersion: API_VERSION, kind: 'StoragePolicy', metadata: { name: POLICY } }

/** Real time beyond every limit: a call that never ends would hold simulated time still for good. */
async function notStuck<T>(run: Promise<T>, realLimitMs: number): Promise<T> {
  const outcome = await within(
    realLimitMs + DRAIN_REAL_MS + 2_000,
    run.then((value) => ({ value })),
  )
  if (outcome === undefined) throw new Error('time stands still: something waits for an answer that does not come')
  return outcome.value
}

/** What `work` comes to, or undefined when that takes longer than `ms` of real time. */
async function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  const over = new AbortController()
  try {
    return await Promise.race([work, wait(ms, undefined, { signal: over.signal }).catch(() => undefined)])
  } finally {
    over.abort()
  }
}

function populate(cluster: EmbeddedCluster, { nodes, pools, volumes }: Scenario): void {
  for (const node of nodes) cluster.mayastor.addNode(node)
  for (const pool of pools) cluster.addPool(pool)
  for (const volume of volumes) if (volume.arrivesMinute === undefined) cluster.addVolume(volume)
}

interface WatchOptions extends Pick<Play, 'cluster' | 'scenario' | 'checker' | 'view' | 'limitMs' | 'fast'> {
  readonly operatorStartMs: number
}

/** Follows what the operator writes, and measures what comes of it. */
class Watch {
  readonly tally = { promoted: 0, demoted: 0, failed: 0, aborted: 0, declined: 0 }
  replicasMoved = 0
  readonly #cluster: EmbeddedCluster
  readonly #scenario: Scenario
  readonly #checker: Checker
  readonly #view: View
  readonly #startMs: number
  readonly #limitMs: number
  readonly #fast: boolean
  readonly #byName: ReadonlyMap<string, DemoVolume>
  readonly #tiers: ReadonlyMap<string, string>
  readonly #topologies = new Map<string, Topology>()
  /** Volumes that had a reason at some time. */
  readonly #ever = new Map<string, Set<string>>()
  readonly #events: DemoEvent[] = []
  readonly #iops = new Map<string, number[]>()
  readonly #shares: { total: number; nvme: number }[] = []
  #shareBefore: number | undefined
  #changedMs = 0
  #frozen: readonly VolumeRow[] | undefined

  constructor({ cluster, scenario, checker, view, operatorStartMs, limitMs, fast }: WatchOptions) {
    this.#cluster = cluster
    this.#scenario = scenario
    this.#checker = checker
    this.#view = view
    this.#startMs = operatorStartMs
    this.#limitMs = limitMs
    this.#fast = fast
    this.#byName = new Map(scenario.volumes.map((volume) => [`pvc-${volume.uuid}`, volume]))
    this.#tiers = new Map(scenario.pools.map(({ name, tier }) => [name, tier]))
    this.#sample()
  }

  /** Since the operator started. */
  get elapsedMs(): number {
    return this.#cluster.clock.now() - this.#startMs
  }

  get speed(): number {
    return this.isMoving() ? SPEED.moving : SPEED.still
  }

  /** What was measured so far is how it was before; from now on the operator is followed. */
  begin(): void {
    this.#shareBefore = this.#share()
    this.#cluster.store.watch((event) => {
      if (event.object.kind !== 'ReplicaTopology' || event.type === 'DELETED') return
      this.#follow(event.object, event.type === 'MODIFIED' ? event.old : undefined)
    })
  }

  note(text: string, volume?: DemoVolume): void {
    this.#tell({ kind: 'note', text, ...(volume === undefined ? {} : { volume: volume.name }) })
  }

  /** From now on decisions are shown and counted as they are now. */
  freeze(): void {
    this.#frozen = this.#rows()
  }

  /** Some migration is wanted or under way, and nobody has to decide about it. */
  isMoving(): boolean {
    return [...this.#topologies.values()].some(({ spec, status }) => {
      const last = status?.migration
      if (last !== undefined && last.endedAt === undefined && last.phase !== 'Held') return true
      return spec.migration !== undefined && spec.migration.id !== last?.id
    })
  }

  /** Loads change no more, nothing moves, and no volume is held by what passes. */
  isOver(): boolean {
    const { elapsedMs } = this
    if (elapsedMs < this.#scenario.lastChangeMinute * MINUTE_MS + WINDOW_MS) return false
    if (elapsedMs - this.#changedMs < QUIET_MS) return false
    return ![...this.#topologies.values()].some(({ spec }) => PASSING.includes(spec.decision.reason))
  }

  migrations(): MigrationRow[] {
    return [...this.#topologies].flatMap(([name, { status }]): MigrationRow[] => {
      const migration = status?.migration
      if (migration === undefined || migration.endedAt !== undefined) return []
      const { direction, phase, reason, replicasMoved, replicasTotal, current } = migration
      return [
        {
          name: this.#nameOf(name),
          direction,
          phase,
          reason,
          replica: Math.min(replicasTotal, replicasMoved + 1),
          replicas: replicasTotal,
          from: current?.sourcePool,
          to: current?.targetPool,
          rebuildPercent: current?.rebuildPercent,
        },
      ]
    })
  }

  frame(): Frame {
    const policy = this.#cluster.store.get(policyRef) as { readonly status?: StoragePolicyStatus } | undefined
    return {
      elapsedMs: this.elapsedMs,
      limitMs: this.#limitMs,
      speed: this.#fast ? undefined : this.speed,
      policy: POLICY,
      phase: policy?.status?.phase ?? 'Pending',
      tiers: this.#fills(),
      shareBefore: this.#shareBefore,
      shareNow: this.#share(),
      volumesByTier: policy?.status?.volumes ?? { nvme: 0, sata: 0, mixed: 0, other: 0 },
      cap: MAX_CONCURRENT_MIGRATIONS,
      tally: this.tally,
      violations: this.#checker.violations.length + this.#cluster.metacontroller.violations.length,
      migrations: this.migrations(),
      volumes: this.#frozen ?? this.#rows(),
      events: this.#events,
    }
  }

  /** How things stand now, for the summary. */
  figures(): Pick<Summary, 'shareBefore' | 'shareAfter' | 'held' | 'settled'> {
    const now = new Map<string, number>()
    for (const { spec } of this.#topologies.values()) {
      now.set(spec.decision.reason, (now.get(spec.decision.reason) ?? 0) + 1)
    }
    const rows = [...this.#ever]
      .map(([reason, volumes]) => ({ reason, now: now.get(reason) ?? 0, ever: volumes.size }))
      .filter(({ reason, now }) => now > 0 || !UNREMARKABLE.includes(reason))
      .sort((a, b) => b.now - a.now || b.ever - a.ever || (a.reason < b.reason ? -1 : 1))
    return {
      shareBefore: this.#shareBefore,
      shareAfter: this.#share(),
      held: rows.filter(({ reason }) => !isSettled(reason)),
      settled: rows.filter(({ reason }) => isSettled(reason)),
    }
  }

  #follow(object: KubeObject, before: KubeObject | undefined): void {
    const { name } = object.metadata
    const now = object as unknown as Topology
    const old = before as Topology | undefined
    this.#topologies.set(name, now)
    const volume = this.#nameOf(name)
    const { reason, message, tier } = now.spec.decision
    if (this.#frozen === undefined) {
      const ever = this.#ever.get(reason) ?? new Set()
      this.#ever.set(reason, ever.add(name))
      if (reason !== old?.spec.decision.reason && reason !== 'NotObserved') {
        this.#tell({ kind: 'decision', volume, text: `${tier ?? 'stay'}: ${reason}, ${message}` })
      }
    }
    const migration = now.status?.migration
    if (migration !== undefined) this.#followMigration(volume, migration, old?.status?.migration)
  }

  #followMigration(volume: string, migration: MigrationStatus, old: MigrationStatus | undefined): void {
    const last = old?.id === migration.id ? old : undefined
    const { direction, phase, reason, message, replicasMoved, replicasTotal, current, endedAt } = migration
    this.replicasMoved += Math.max(0, replicasMoved - (last?.replicasMoved ?? 0))
    if (endedAt !== undefined) {
      if (last?.endedAt !== undefined) return
      this.#count(migration)
      const text = `${direction} ${phase}: ${reason}, ${message}`
      this.#tell({ kind: 'end', volume, text, bad: phase === 'Failed' })
    } else if (last?.phase !== phase || last.current?.replica !== current?.replica) {
      const nth = `replica ${Math.min(replicasTotal, replicasMoved + 1)} of ${replicasTotal}`
      const way = current === undefined ? '' : `, ${current.sourcePool} to ${current.targetPool}`
      this.#tell({ kind: 'phase', volume, text: `${direction} ${phase}: ${nth}${way}` })
    }
  }

  #count({ direction, phase, started }: MigrationStatus): void {
    const done: Record<Direction, 'promoted' | 'demoted'> = { Promote: 'promoted', Demote: 'demoted' }
    if (phase === 'Completed') this.tally[done[direction]]++
    else if (!started) this.tally.declined++
    else if (phase === 'Failed') this.tally.failed++
    else this.tally.aborted++
  }

  #tell(event: Omit<DemoEvent, 'elapsedMs'>): void {
    const told = { elapsedMs: this.elapsedMs, ...event }
    this.#changedMs = told.elapsedMs
    this.#events.push(told)
    if (this.#events.length > EVENTS_KEPT) this.#events.shift()
    this.#view.event(told)
  }

  #nameOf(name: string): string {
    return this.#byName.get(name)?.name ?? name
  }

  #rows(): VolumeRow[] {
    return [...this.#topologies].map(([name, { spec, status }]) => {
      const samples = this.#iops.get(name) ?? []
      const tier = (pool: string | undefined) => this.#tiers.get(pool ?? '')?.charAt(0) ?? '?'
      return {
        name: this.#nameOf(name),
        tiers: (status?.replicas ?? []).map(({ pool }) => tier(pool)).join(''),
        iops: samples.length === 0 ? undefined : samples.reduce((sum, iops) => sum + iops, 0) / samples.length,
        wants: spec.decision.tier,
        reason: spec.decision.reason,
        message: spec.decision.message,
      }
    })
  }

  #fills(): TierRow[] {
    const pools = this.#cluster.store.list<{
      readonly metadata: { readonly name: string }
      readonly status?: { readonly used: number; readonly capacity: number }
    }>(DEFAULT_DISKPOOL_API_VERSION, 'DiskPool')
    return (['NVMe', 'SATA'] as const).map((tier) => {
      const own = pools.filter(({ metadata }) => this.#tiers.get(metadata.name) === tier)
      return {
        tier,
        usedBytes: own.reduce((sum, { status }) => sum + (status?.used ?? 0), 0),
        capacityBytes: own.reduce((sum, { status }) => sum + (status?.capacity ?? 0), 0),
      }
    })
  }

  /** Share of the measured I/O over the window that replicas on NVMe serve: of each volume the part of its replicas. */
  #share(): number | undefined {
    const total = this.#shares.reduce((sum, sample) => sum + sample.total, 0)
    return total === 0 ? undefined : this.#shares.reduce((sum, sample) => sum + sample.nvme, 0) / total
  }

  #sample(): void {
    const { clock, mayastor } = this.#cluster
    const sum = { total: 0, nvme: 0 }
    for (const [name, { uuid, load }] of this.#byName) {
      const volume = mayastor.truth.volumes.get(uuid)
      const rate = volume?.nexus === undefined ? undefined : load(clock.now())
      const samples = this.#iops.get(name) ?? []
      if (volume === undefined || rate === undefined) continue
      const iops = rate.read + rate.write
      samples.push(iops)
      if (samples.length > WINDOW_MS / SAMPLE_MS) samples.shift()
      this.#iops.set(name, samples)
      const synced = [...volume.replicas].filter((replica) => replica.synced)
      const fast = synced.filter((replica) => this.#tiers.get(replica.pool.id) === 'NVMe').length
      sum.total += iops
      if (synced.length > 0) sum.nvme += (iops * fast) / synced.length
    }
    this.#shares.push(sum)
    if (this.#shares.length > WINDOW_MS / SAMPLE_MS) this.#shares.shift()
    clock.after(SAMPLE_MS, () => this.#sample())
  }
}

function readArguments(argv: readonly string[]): { seed: number; fast: boolean; plain: boolean } {
  const program = new Command('npm run demo --')
    .description('Storage tiering on a simulated cluster, in accelerated time. Ends by itself within two minutes.')
    .option('--seed <number>', 'another placement and other chances', wholeNumber, DEFAULT_SEED)
    .option('--fast', 'as fast as the machine allows', false)
    .option('--plain', 'lines, also on a terminal', false)
  return parseArguments(program, argv)
}

function wholeNumber(text: string): number {
  const value = Number(text)
  if (!/^[0-9]+$/.test(text) || value >= 2 ** 32) throw new InvalidArgumentError('a whole number below 2^32 is needed.')
  return value
}

async function main(): Promise<number> {
  const options = readArguments(process.argv.slice(2))
  const stop = new AbortController()
  let code: number | undefined
  for (const [signal, itsCode] of Object.entries(SIGNALS)) {
    process.on(signal, () => {
      if (code !== undefined) process.exit(code)
      code = itsCode
      stop.abort()
    })
  }
  // Whoever read the output has gone, as `head` does: there is nobody left to show anything to.
  process.stdout.on('error', () => process.exit(1))
  const { exitCode } = await runDemo({ ...options, signal: stop.signal })
  return code ?? exitCode
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  let text = ''
  let code: number
  try {
    code = await main()
  } catch (error) {
    code = error instanceof Usage ? error.exitCode : 1
    text = error instanceof Usage ? `${error.message}\n` : `the demo failed: ${(error as Error).stack}\n`
  }
  process[code === 0 ? 'stdout' : 'stderr'].write(text, () => process.exit(code))
}
