import fc from 'fast-check'
import t from 'tap'
import { type CandidatePool, type MovePlan, type PlacedReplica, planMoves } from '../../src/plan/moves.js'

/** `r1@n1`, with a zone `r1@n1/a` and a spread value `r1@n1/a/x`; its pool is named after replica and node. */
function replicas(...texts: string[]): PlacedReplica[] {
  return texts.map((text) => {
    const [where = '', zone, spread] = text.split('/')
    const [name = '', node = ''] = where.split('@')
    return { replica: name, pool: `old-${node}`, node, zone: zone || undefined, spread }
  })
}

/** `p1@n1/zone/spread`. */
function pools(...texts: string[]): CandidatePool[] {
  return replicas(...texts).map(({ replica, node, zone, spread }) => ({ pool: replica, node, zone, spread }))
}

const short = (plan: MovePlan) =>
  plan.kind === 'none' ? plan.reason : plan.moves.map((move) => `${move.replica}>${move.targetPool}`)

t.test('orders of moves', async (t) => {
  const cases: readonly {
    name: string
    staying?: string[]
    moving: string[]
    candidates: string[]
    plan: string | string[]
  }[] = [
    { name: 'one replica to the best pool', moving: ['a@n1'], candidates: ['p@n2', 'q@n3'], plan: ['a>p'] },
    { name: 'never to its own node', moving: ['a@n1'], candidates: ['p@n1', 'q@n2'], plan: ['a>q'] },
    { name: 'only its own node', moving: ['a@n1'], candidates: ['p@n1'], plan: 'NoFreeTargetNode' },
    { name: 'no pool at all', moving: ['a@n1'], candidates: [], plan: 'NoFittingPool' },
    {
      name: 'only nodes of replicas that stay',
      staying: ['s@n2'],
      moving: ['a@n1'],
      candidates: ['p@n2'],
      plan: 'NoFreeTargetNode',
    },
    {
      name: 'never beside one that stays',
      staying: ['s@n2'],
      moving: ['a@n1'],
      candidates: ['p@n2', 'q@n3'],
      plan: ['a>q'],
    },
    { name: 'free nodes for both', moving: ['a@n1', 'b@n2'], candidates: ['p@n3', 'q@n4'], plan: ['a>p', 'b>q'] },
    {
      name: 'free nodes before vacated ones',
      moving: ['a@n1', 'b@n2'],
      candidates: ['o@n1', 'p@n3', 'q@n4'],
      plan: ['a>p', 'b>q'],
    },
    {
      name: 'one free node: the other follows to the node vacated',
      moving: ['a@n1', 'b@n2'],
      candidates: ['p@n3', 'q@n1'],
      plan: ['a>p', 'b>q'],
    },
    {
      name: 'who sits where another must go leaves first',
      moving: ['a@n1', 'b@n2'],
      candidates: ['p@n3', 'q@n2'],
      plan: ['b>p', 'a>q'],
    },
    {
      name: 'three in a row through one free node',
      moving: ['a@n1', 'b@n2', 'c@n3'],
      candidates: ['o@n4', 'p@n1', 'q@n2'],
      plan: ['a>o', 'b>p', 'c>q'],
    },
    {
      name: 'X = W: no direct order',
      moving: ['a@n1', 'b@n2'],
      candidates: ['p@n1', 'q@n2'],
      plan: 'NoFreeTargetNode',
    },
    { name: 'too few nodes', moving: ['a@n1', 'b@n2'], candidates: ['p@n3', 'q@n3'], plan: 'NoFreeTargetNode' },
    {
      name: 'the best pool of a node is taken',
      moving: ['a@n1'],
      candidates: ['q@n2', 'p@n2'],
      plan: ['a>q'],
    },
    {
      name: 'a zone of its own stays covered',
      staying: ['s@n1/a'],
      moving: ['m@n2/b'],
      candidates: ['p@n3/a', 'q@n4/b'],
      plan: ['m>q'],
    },
    {
      name: 'zones would shrink',
      staying: ['s@n1/a'],
      moving: ['m@n2/b'],
      candidates: ['p@n3/a'],
      plan: 'ZonesWouldShrink',
    },
    {
      name: 'another zone is as good',
      staying: ['s@n1/a'],
      moving: ['m@n2/b'],
      candidates: ['p@n3/a', 'q@n4/c'],
      plan: ['m>q'],
    },
    {
      name: 'no zone known of the target',
      staying: ['s@n1/a'],
      moving: ['m@n2/b'],
      candidates: ['p@n3'],
      plan: 'ZonesWouldShrink',
    },
    {
      name: 'a single replica may go where the zone is not known',
      moving: ['m@n1/a'],
      candidates: ['p@n3'],
      plan: ['m>p'],
    },
    {
      name: 'all in one zone: any node of it, or of none',
      staying: ['s@n1/a'],
      moving: ['m@n2/a'],
      candidates: ['p@n3'],
      plan: ['m>p'],
    },
    {
      name: 'zones that would shrink in between only: the other one first',
      moving: ['m@n1/a', 'o@n2/b'],
      candidates: ['p@n3/a', 'q@n4/b'],
      plan: ['m>p', 'o>q'],
    },
    {
      name: 'as many zones in the end, fewer in between',
      moving: ['m@n1/a', 'o@n2/b'],
      candidates: ['p@n3/b', 'q@n1/a'],
      plan: 'ZonesWouldShrink',
    },
    {
      name: 'spread values differ, the leaving one still counted',
      staying: ['s@n1//x'],
      moving: ['m@n2//y'],
      candidates: ['p@n3//x', 'q@n4//y', 'r@n5//z'],
      plan: ['m>r'],
    },
    {
      name: 'no value left',
      staying: ['s@n1//x'],
      moving: ['m@n2//y'],
      candidates: ['p@n3//x', 'q@n4//y'],
      plan: 'NoFreeTargetNode',
    },
    {
      name: 'a value that was freed by the first',
      moving: ['m@n1//x', 'o@n2//y'],
      candidates: ['p@n3//z', 'q@n4//x'],
      plan: ['m>p', 'o>q'],
    },
    {
      name: 'two pools of a node differ in spread: the second counts',
      staying: ['s@n1//x'],
      moving: ['m@n2//y'],
      candidates: ['p@n3//x', 'q@n3//z'],
      plan: ['m>q'],
    },
  ]
  for (const { name, staying = [], moving, candidates, plan } of cases) {
    t.strictSame(short(planMoves(replicas(...staying), replicas(...moving), pools(...candidates))), plan, name)
  }
  t.strictSame(
    planMoves([], replicas('a@n1'), pools('p@n2')),
    { kind: 'order', moves: [{ replica: 'a', sourcePool: 'old-n1', targetPool: 'p' }] },
    'source and target are named by pool',
  )
})

interface Cluster {
  readonly staying: readonly PlacedReplica[]
  readonly moving: readonly PlacedReplica[]
  readonly candidates: readonly CandidatePool[]
}

const zoneCount = (placed: readonly Omit<PlacedReplica, 'replica'>[]) =>
  Math.max(1, new Set(placed.flatMap(({ zone }) => zone ?? [])).size)

/** Whether some order of direct moves exists, tried one after the other without any cleverness. */
function exists({ staying, moving, candidates }: Cluster, keepZones: boolean): boolean {
  const zones = zoneCount([...staying, ...moving])
  const walk = (waiting: readonly PlacedReplica[], settled: readonly Omit<PlacedReplica, 'replica'>[]): boolean => {
    if (waiting.length === 0) return true
    return waiting.some((replica) => {
      const others = waiting.filter((other) => other !== replica)
      return candidates.some((pool) => {
        const present = [...settled, ...waiting]
        if (present.some((other) => other.node === pool.node)) return false
        if (pool.spread !== undefined && present.some((other) => other.spread === pool.spread)) return false
        if (keepZones && zoneCount([...settled, pool, ...others]) < zones) return false
        return walk(others, [...settled, pool])
      })
    })
  }
  return walk(moving, staying)
}

/** Plays the moves one by one; the first rule that is broken, if any. */
function broken({ staying, moving, candidates }: Cluster, plan: Extract<MovePlan, { kind: 'order' }>) {
  const zones = zoneCount([...staying, ...moving])
  let placed: readonly PlacedReplica[] = [...staying, ...moving]
  for (const { replica, sourcePool, targetPool } of plan.moves) {
    const source = placed.find((other) => other.replica === replica && other.pool === sourcePool)
    const target = candidates.find((pool) => pool.pool === targetPool)
    if (source === undefined || target === undefined || staying.includes(source)) return `unknown ${replica}`
    const grown = [...placed, { ...target, replica: `${replica}'` }]
    if (new Set(grown.map(({ node }) => node)).size < grown.length) return `two replicas on ${target.node}`
    if (target.spread !== undefined && placed.some(({ spread }) => spread === target.spread)) return 'spread'
    placed = grown.filter((other) => other !== source)
    if (zoneCount(placed) < zones) return `zones fell with ${replica}`
  }
  return moving.some((replica) => placed.includes(replica)) ? 'some were not moved' : undefined
}

const clusters: fc.Arbitrary<Cluster> = fc
  .record({
    nodes: fc.integer({ min: 1, max: 5 }),
    zoneOf: fc.array(fc.option(fc.constantFrom('a', 'b', 'c'), { nil: undefined, freq: 5 }), {
      minLength: 5,
      maxLength: 5,
    }),
    spreadOf: fc.option(fc.array(fc.constantFrom('x', 'y', 'z', 'w'), { minLength: 5, maxLength: 5 })),
    /** By node: neither, a replica that stays, or one that moves. */
    roles: fc.array(fc.constantFrom('none', 'stays', 'moves'), { minLength: 5, maxLength: 5 }),
    pools: fc.uniqueArray(fc.integer({ min: 0, max: 9 }), { maxLength: 8 }),
    /** Spread by label of the pool instead of the node. */
    poolSpread: fc.option(fc.array(fc.constantFrom('x', 'y', 'z', undefined), { minLength: 10, maxLength: 10 })),
  })
  .map(({ nodes, zoneOf, spreadOf, roles, pools, poolSpread }): Cluster => {
    const all = roles.slice(0, nodes).map((role, index) => ({
      role,
      placed: {
        replica: `r${index}`,
        pool: `old-${index}`,
        node: `n${index}`,
        zone: zoneOf[index],
        spread: spreadOf?.[index],
      },
    }))
    return {
      staying: all.filter(({ role }) => role === 'stays').map(({ placed }) => placed),
      moving: all.filter(({ role }) => role === 'moves').map(({ placed }) => placed),
      candidates: pools
        .filter((number) => number % 5 < nodes)
        .map((number) => ({
          pool: `p${number}`,
          node: `n${number % 5}`,
          zone: zoneOf[number % 5],
          spread: spreadOf?.[number % 5] ?? poolSpread?.[number],
        })),
    }
  })
  .filter(({ moving }) => moving.length > 0)

t.test('against brute force on clusters of up to five nodes', async (t) => {
  const seen = new Map<string, number>()
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(clusters, (cluster) => {
        const plan = planMoves(cluster.staying, cluster.moving, cluster.candidates)
        seen.set(plan.kind === 'none' ? plan.reason : plan.kind, 1)
        if (plan.kind === 'order') {
          const rule = broken(cluster, plan)
          if (rule !== undefined) throw new Error(`${rule}: ${JSON.stringify(plan.moves)}`)
          return
        }
        const wanted =
          cluster.candidates.length === 0
            ? 'NoFittingPool'
            : exists(cluster, true)
              ? 'an order'
              : exists(cluster, false)
                ? 'ZonesWouldShrink'
                : 'NoFreeTargetNode'
        if (plan.reason !== wanted) throw new Error(`${plan.reason}, but brute force finds ${wanted}`)
      }),
      { numRuns: 4000 },
    ),
  )
  t.strictSame(
    [...seen.keys()].sort(),
    ['NoFittingPool', 'NoFreeTargetNode', 'ZonesWouldShrink', 'order'],
    'all ends seen',
  )
})

t.test('whether an order exists does not depend on the order of what is given', async (t) => {
  const shuffled = clusters.chain((cluster) =>
    fc.record({
      cluster: fc.constant(cluster),
      other: fc.record({
        staying: fc.shuffledSubarray([...cluster.staying], { minLength: cluster.staying.length }),
        moving: fc.shuffledSubarray([...cluster.moving], { minLength: cluster.moving.length }),
        candidates: fc.shuffledSubarray([...cluster.candidates], { minLength: cluster.candidates.length }),
      }),
    }),
  )
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(shuffled, ({ cluster, other }) => {
        const [one, two] = [cluster, other].map((c) => planMoves(c.staying, c.moving, c.candidates))
        const end = (plan: MovePlan | undefined) => (plan?.kind === 'none' ? plan.reason : plan?.kind)
        if (end(one) !== end(two)) throw new Error(`${end(one)} and ${end(two)}`)
      }),
    ),
  )
})

t.test('a large cluster is planned at once', async (t) => {
  const many = Array.from({ length: 500 }, (_, index) => `p${index}@m${index}/z${index % 2}`)
  const started = process.hrtime.bigint()
  const moving = replicas('a@n1/z0', 'b@n2/z1', 'c@n3/z2')
  t.equal(short(planMoves([], moving, pools(...many))), 'ZonesWouldShrink')
  t.equal(short(planMoves([], moving.slice(0, 2), pools(...many)))?.length, 2)
  t.ok(Number(process.hrtime.bigint() - started) / 1e6 < 1000, 'in less than a second')
})
