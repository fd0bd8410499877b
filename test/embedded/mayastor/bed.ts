import t, { type Test } from 'tap'
import { SimulatedClock } from '../../../src/embedded/clock.js'
import {
  type Choose,
  type EventKind,
  type Failure,
  GiB,
  type MayastorEvent,
  type MayastorOptions,
  MiB,
  type NewVolume,
  type Operation,
  type Replica,
  type Request,
  SimulatedMayastor,
  type VolumeOptions,
} from '../../../src/embedded/mayastor/index.js'
import { type RuleId, rules } from './rules.js'

export const V = '11111111-1111-4111-8111-111111111111'
export const START = Date.UTC(2026, 0, 1)

/** 5 GiB take 500 s to rebuild. */
export const SLOW = { rebuildBytesPerSecond: (10 * GiB) / 1_000 }

export const takeFirst: Choose = (_what, options) => options[0] as (typeof options)[0]
export const takeLast: Choose = (_what, options) => options[options.length - 1] as (typeof options)[0]

/** What a person asks for who wants two replicas. */
export const newVolume: NewVolume = {
  uuid: V,
  sizeBytes: 10 * GiB,
  replicas: 2,
  thin: true,
  selfHeal: true,
  topology: {},
  affinityGroup: undefined,
  encrypted: false,
  clusterSizeBytes: 4 * MiB,
}

export interface Answer {
  readonly status: number
  // biome-ignore lint/suspicious/noExplicitAny: replies are looked at as whoever has no types of ours would
  readonly body: any
}

/** A test of one rule, under its name. */
export function rule(id: RuleId, body: (t: Test) => Promise<unknown>): void {
  t.test(`${id}: ${rules[id].says}`, (t) => body(t).then(() => {}))
}

/** A cluster of nodes a, b, c ... with the pools `<node>-nvme` and `<node>-sata`, and someone who calls its REST API. */
export class Bed {
  readonly clock: SimulatedClock
  readonly mayastor: SimulatedMayastor
  readonly events: MayastorEvent[] = []
  #url = ''

  constructor(options: Partial<MayastorOptions> = {}, nodes = 'abcd') {
    this.clock = options.clock ?? new SimulatedClock(START)
    this.mayastor = new SimulatedMayastor({ ...options, clock: this.clock })
    this.mayastor.onEvent((event) => this.events.push(event))
    for (const id of nodes) {
      this.mayastor.addNode({ id, labels: { zone: id } })
      for (const tier of ['nvme', 'sata']) {
        this.mayastor.addPool({ id: `${id}-${tier}`, node: id, capacityBytes: 100 * GiB, labels: { tier } })
      }
    }
  }

  /** A published thin volume of 10 GiB, 5 of them written, with replicas r0, r1, ... on these pools. */
  volume(pools: readonly string[], more: Partial<VolumeOptions> = {}): void {
    this.mayastor.createVolume({
      uuid: V,
      sizeBytes: 10 * GiB,
      allocatedBytes: 5 * GiB,
      replicas: pools.map((pool, i) => ({ uuid: `r${i}`, pool })),
      ...more,
    })
  }

  /** Closes every pool but these to new replicas. */
  openOnly(...pools: readonly string[]): void {
    for (const { id } of this.mayastor.truth.pools.values()) {
      if (!pools.includes(id)) this.mayastor.cordonPool(id, { replicas: true })
    }
  }

  async start(): Promise<this> {
    this.#url = await this.mayastor.start()
    return this
  }

  /** A call made now, as a task of simulated time; let time pass to get its answer. Status 0: the connection broke. */
  call(method: string, path: string, body?: unknown, ended: () => void = () => {}): Promise<Answer> {
    const init =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
    return this.clock.task(async () => {
      try {
        const response = await fetch(`${this.#url}/v0${path}`, { method, ...init })
        const text = await response.text()
        return { status: response.status, body: text === '' ? undefined : JSON.parse(text) }
      } catch {
        return { status: 0, body: undefined }
      } finally {
        ended()
      }
    })
  }

  /** A call that may be given up. */
  async abortable(method: string, path: string, signal: AbortSignal): Promise<number | 'aborted'> {
    try {
      return (await fetch(`${this.#url}/v0${path}`, { method, signal })).status
    } catch {
      return 'aborted'
    }
  }

  get(path: string): Promise<Answer> {
    return this.call('GET', path)
  }

  /** A call and the time until its answer. */
  async done(method: string, path: string, body?: unknown): Promise<Answer> {
    let settled = false
    const answer = this.call(method, path, body, () => {
      settled = true
    })
    await this.clock.run(this.clock.now() + 60_000, () => settled)
    return answer
  }

  setReplicas(count: number, volume = V): Promise<Answer> {
    return this.done('PUT', `/volumes/${volume}/replica_count/${count}`)
  }

  /** A person's request and the time until it is over. */
  async ask(request: Request): Promise<Failure | undefined> {
    return this.ended(this.mayastor.request(request))
  }

  async ended(operation: Operation): Promise<Failure | undefined> {
    while (!operation.done) await this.pass(100)
    return operation.failure
  }

  pass(ms: number): Promise<void> {
    return this.clock.run(this.clock.now() + ms)
  }

  /** Time until the next event of this kind, at most ten minutes. */
  async until(kind: EventKind): Promise<MayastorEvent | undefined> {
    const seen = this.events.length
    const found = () => this.events.slice(seen).find((event) => event.kind === kind)
    await this.clock.run(this.clock.now() + 600_000, () => found() !== undefined)
    return found()
  }

  seen(kind: EventKind): MayastorEvent[] {
    return this.events.filter((event) => event.kind === kind)
  }

  /** The one that was not there from the beginning. */
  get added(): string {
    return this.replicas().find((uuid) => !/^r\d$/.test(uuid)) ?? ''
  }

  replica(uuid: string): Replica | undefined {
    return this.mayastor.truth.replicas.get(uuid) as Replica | undefined
  }

  /** What REST shows of the volume. */
  async shown(volume = V): Promise<Answer['body']> {
    return (await this.get(`/volumes/${volume}`)).body
  }

  /** The replicas that are really there. */
  #present(volume: string): Replica[] {
    return [...(this.mayastor.truth.volumes.get(volume)?.replicas ?? [])].filter((replica) => replica.onDisk)
  }

  placement(volume = V): string[] {
    return this.#present(volume).map((replica) => replica.pool.id)
  }

  replicas(volume = V): string[] {
    return this.#present(volume).map((replica) => replica.uuid)
  }

  count(volume = V): number | undefined {
    return this.mayastor.truth.volumes.get(volume)?.numReplicas
  }
}

/** Runs `work` on a started bed and stops it. */
export async function withBed<T>(bed: Bed, work: (bed: Bed) => Promise<T>): Promise<T> {
  await bed.start()
  try {
    return await work(bed)
  } finally {
    await bed.mayastor.stop()
  }
}
