import fc from 'fast-check'
import { KINDS, type Kind } from './kinds.js'
import { MOMENTS, type Moment, READING_ROWS, ROWS, type Row } from './rows.js'

/** Everything one run is made of, so that the same scenario gives the same run. */
export interface Scenario {
  /** Of ties, uuids, phases, and of what faults pick. */
  readonly seed: number
  readonly nodes: readonly NodeSpec[]
  /** Whether nodes are in zones. */
  readonly zoned: boolean
  readonly volumes: readonly VolumeSpec[]
  /** Storage classes with a policy of their own: one or two. */
  readonly policies: readonly PolicySpec[]
  readonly clusterLimit: number
  readonly preservation: boolean
  /** How far the wall clock of each process of the operator is ahead, seconds. */
  readonly skews: readonly number[]
  readonly rebuildMiBPerSecond: number
  /** How much later than anybody who asks the io-engine etcd learns that a replica is healthy, seconds. */
  readonly healthyDelay: number
  /** Share of requests, in per mille, that go astray all the while. */
  readonly flaky: number
  /** Whether earlier hook calls come again all the while. */
  readonly echo: boolean
  readonly faults: readonly FaultSpec[]
  /** What becomes of the policies when the faults stop. */
  readonly ending: 'stay' | 'disable' | 'delete'
  /** Whether people take their own cordons away when the faults stop. */
  readonly tidyPeople: boolean
}

export interface NodeSpec {
  /** GiB; 0: none. */
  readonly nvme: number
  readonly sata: number
}

export interface VolumeSpec {
  readonly gib: number
  readonly thin: boolean
  readonly replicas: number
  readonly on: 'nvme' | 'sata' | 'mixed'
  readonly load: 'hot' | 'cold' | 'between'
  /** Picks the first node. */
  readonly first: number
  readonly policy: number
  readonly oddity: 'none' | 'snapshots' | 'unpublished' | 'group' | 'spread' | 'pinned'
}

export interface PolicySpec {
  readonly limit: number
  readonly timeoutMinutes: number
  readonly hardTimeout: boolean
}

export interface FaultSpec {
  readonly kind: Kind
  /** Undefined: wherever the next request is about a move. */
  readonly row: Row | undefined
  readonly moment: Moment
  /** Times the place is passed before it strikes. */
  readonly skip: number
  /** Seconds after the one before it has struck until it is looked for. */
  readonly afterSeconds: number
  /** How long it lasts, seconds. */
  readonly forSeconds: number
  /** Picks among what it could hit. */
  readonly pick: number
}

/** A place and what strikes there. */
export interface Cell {
  readonly row: Row
  readonly kind: Kind
}

/** What the protocol leaves no room for. Whatever is listed and strikes all the same is a mistake here. */
const IMPOSSIBLE: readonly { readonly kinds: readonly Kind[]; readonly rows: readonly Row[]; readonly why: string }[] =
  [
    {
      kinds: ['added faults', 'added runs out of space'],
      rows: ['check', 'fence'],
      why: 'the replica is asked for in the row grow, and no row before it comes again for the same replica',
    },
  ]

export function isImpossible({ row, kind }: Cell): boolean {
  return IMPOSSIBLE.some(({ kinds, rows }) => kinds.includes(kind) && rows.includes(row))
}

/** Every place a fault can strike at. */
export const CELLS: readonly Cell[] = ROWS.flatMap((row) => KINDS.map((kind) => ({ row, kind }))).filter(
  (cell) => !isImpossible(cell),
)

/** What has to be so for a fault to have an effect at a place, and what makes it so; undefined: nothing in particular. */
const PREPARATIONS: Readonly<Partial<Record<Kind, (row: Row | undefined) => Partial<FaultSpec> | undefined>>> = {
  'pool uncordoned': () => ({ kind: 'pool cordoned', pick: 0 }),
  // None is taken as long as the added replica is not synced, and one that was taken before is seen once it has landed.
  'snapshot deleted': (row) => ({
    kind: 'snapshot taken',
    pick: 0,
    ...(isAfterGrow(row) && row !== 'rebuild' ? { row: 'grow', moment: 'announced' } : {}),
  }),
  // Mayastor raises no count while it rebuilds, so nobody may write down what came of it until it has.
  'scaled up': (row) =>
    row === 'landed' ? { kind: 'API server away', row: 'grow', moment: 'answered', forSeconds: 600 } : undefined,
  // The source outlives the removal only where the added replica is what is removed.
  'source faults': (row) =>
    row === 'unlabel' || row === 'done'
      ? { kind: 'policy disabled', row: 'landed', moment: 'answered', forSeconds: 900 }
      : undefined,
}

function isAfterGrow(row: Row | undefined): boolean {
  return row !== undefined && ROWS.indexOf(row) > ROWS.indexOf('grow')
}

function prepared(spec: FaultSpec): readonly FaultSpec[] {
  const preparation = PREPARATIONS[spec.kind]?.(spec.row)
  return preparation === undefined ? [spec] : [{ ...spec, ...preparation }, spec]
}

const node = fc.record({
  nvme: fc.constantFrom(0, 100, 200, 200, 200, 200, 200, 200),
  sata: fc.constantFrom(0, 400, 400, 400, 400, 400, 400, 400),
})

const common = {
  gib: fc.integer({ min: 2, max: 12 }),
  thin: fc.boolean(),
  first: fc.nat(63),
  policy: fc.nat(1),
}

/** One that has every reason to move. */
const mover: fc.Arbitrary<VolumeSpec> = fc
  .record({
    ...common,
    replicas: fc.constantFrom(1, 2, 2, 2, 2, 3),
    on: fc.constantFrom('nvme', 'sata'),
    oddity: fc.constantFrom('none', 'none', 'none', 'none', 'spread'),
  })
  .map((spec) => ({ ...spec, load: spec.on === 'nvme' ? 'cold' : 'hot' }))

const volume: fc.Arbitrary<VolumeSpec> = fc.record({
  ...common,
  replicas: fc.constantFrom(1, 2, 2, 2, 3),
  on: fc.constantFrom('nvme', 'sata', 'mixed'),
  load: fc.constantFrom('hot', 'hot', 'cold', 'cold', 'between'),
  oddity: fc.constantFrom('none', 'none', 'none', 'snapshots', 'unpublished', 'group', 'spread', 'pinned'),
})

const policy = fc.record({
  limit: fc.integer({ min: 1, max: 3 }),
  timeoutMinutes: fc.constantFrom(5, 10, 30),
  hardTimeout: fc.boolean(),
})

function fault(row: fc.Arbitrary<Row | undefined>, kind: fc.Arbitrary<Kind>): fc.Arbitrary<FaultSpec> {
  return fc
    .record({
      kind,
      row,
      moment: fc.constantFrom(...MOMENTS),
      skip: fc.constantFrom(0, 0, 0, 1, 2, 5),
      afterSeconds: fc.constantFrom(0, 0, 1, 5, 20, 60, 300),
      forSeconds: fc.constantFrom(1, 5, 20, 45, 70, 130, 200, 400, 900, 1500),
      pick: fc.nat(1023),
    })
    .map((spec) =>
      spec.row !== undefined &&
      READING_ROWS.has(spec.row) &&
      (spec.moment === 'unannounced' || spec.moment === 'announced')
        ? { ...spec, moment: 'call' as const }
        : spec,
    )
}

/** Faults beside those that a scenario has to have. */
const MORE_FAULTS = 3

/** Scenarios whose first faults are of the given cells, one after the other, with what they need. Without any: no faults at all. */
export function scenarios(cells: readonly Cell[]): fc.Arbitrary<Scenario> {
  const isCalm = cells.length === 0
  const faults = fc
    .tuple(
      fc.tuple(
        ...cells.map(({ row, kind }) =>
          fault(fc.constant(row), fc.constant(kind)).map((spec) => prepared({ ...spec, skip: 0, afterSeconds: 0 })),
        ),
      ),
      fc.array(fault(fc.option(fc.constantFrom(...ROWS), { nil: undefined, freq: 2 }), fc.constantFrom(...KINDS)), {
        maxLength: isCalm ? 0 : MORE_FAULTS,
      }),
    )
    .map(([first, rest]) => [...first.flat(), ...rest])
  return fc.record({
    seed: fc.nat(2 ** 31 - 1),
    nodes: fc.array(node, { minLength: 3, maxLength: 6 }),
    zoned: fc.boolean(),
    volumes: fc.tuple(mover, fc.array(volume, { maxLength: 2 })).map(([first, rest]) => [first, ...rest]),
    policies: fc.array(policy, { minLength: 1, maxLength: 2 }),
    clusterLimit: fc.integer({ min: 1, max: 3 }),
    preservation: fc.constantFrom(false, false, false, false, false, false, false, false, false, true),
    skews: fc.constantFrom([0], [0], [0, 0], [0, 120], [120, 0], [-60, 60]),
    rebuildMiBPerSecond: fc.constantFrom(10, 20, 60, 200, 200),
    healthyDelay: fc.constantFrom(1, 5, 20),
    flaky: isCalm ? fc.constant(0) : fc.constantFrom(0, 0, 0, 10, 40),
    echo: isCalm ? fc.constant(false) : fc.constantFrom(false, false, true),
    faults,
    ending: fc.constantFrom('stay', 'stay', 'disable', 'delete'),
    tidyPeople: fc.boolean(),
  })
}
