import t from 'tap'
import type { Choice, Choose, MayastorOptions } from '../../../src/embedded/mayastor/index.js'
import { Bed, SLOW, takeFirst, takeLast, V, withBed } from './bed.js'

// Whatever the real thing leaves open is asked of whoever made the cluster, with all there is to choose from.

interface Scenario {
  readonly options?: Partial<MayastorOptions>
  readonly make: (bed: Bed) => void
  readonly run: (bed: Bed) => Promise<unknown>
}

const two = [
  { uuid: 'r0', pool: 'a-nvme' },
  { uuid: 'r1', pool: 'b-nvme' },
]
/** Two volumes that are alike, with their targets away from their replicas. */
function twins(bed: Bed): void {
  bed.volume(['a-nvme', 'b-nvme'], { targetNode: 'd' })
  bed.volume([], { uuid: 'twin', replicas: two.map(({ pool }) => ({ pool })), targetNode: 'd' })
}
const one = (bed: Bed) => bed.volume(['a-nvme', 'b-nvme'], { targetNode: 'd' })
const unpublished = (bed: Bed) => bed.volume(['a-nvme', 'b-nvme'], { published: false })

const scenarios: Record<Choice, Scenario> = {
  placement: { make: one, run: (bed) => bed.setReplicas(3) },
  removal: { make: one, run: (bed) => bed.setReplicas(1) },
  'rebuild-source': { make: one, run: (bed) => bed.setReplicas(3) },
  'nexus-source': {
    make: one,
    run: async (bed) => {
      bed.mayastor.setNodeOnline('d', false)
      bed.mayastor.moveTarget(V, 'c')
    },
  },
  'target-node': { make: unpublished, run: (bed) => bed.ask({ kind: 'publish', uuid: V }) },
  'reconcile-volume': {
    make: twins,
    run: async (bed) => {
      bed.mayastor.setNodeOnline('a', false)
      await bed.pass(61_000)
    },
  },
  'attach-replica': {
    make: (bed) => bed.volume(['a-nvme', 'b-nvme', 'c-nvme'], { targetNode: 'd' }),
    run: async (bed) => {
      bed.mayastor.setNodeOnline('d', false)
      bed.mayastor.moveTarget(V, 'a')
      await bed.pass(61_000)
    },
  },
  'move-replica': {
    make: twins,
    run: async (bed) => {
      for (const replica of bed.mayastor.truth.pools.get('b-nvme')?.replicas ?? []) {
        bed.mayastor.faultReplica(replica.uuid, 'OutOfSpace')
      }
      await bed.pass(31_000)
    },
  },
  'drain-pool': {
    options: { version: '2.13.0' },
    make: one,
    run: async (bed) => {
      for (const pool of ['a-nvme', 'b-nvme']) bed.mayastor.drainPool(pool)
      await bed.pass(1_000)
    },
  },
  'drain-replica': {
    options: { version: '2.13.0' },
    make: twins,
    run: async (bed) => {
      bed.mayastor.drainPool('a-nvme')
      await bed.pass(1_000)
    },
  },
  'rebuild-fault': {
    options: SLOW,
    make: one,
    run: async (bed) => {
      bed.openOnly('c-nvme')
      await bed.setReplicas(3)
      bed.mayastor.setOtherBytes('c-nvme', 99 * 1024 ** 3)
      await bed.until('child-faulted')
    },
  },
  'poll-phase': { make: () => {}, run: async () => {} },
}

for (const [what, { options, make, run }] of Object.entries(scenarios)) {
  t.test(`${what} is a choice`, async (t) => {
    const chosen = async (take: Choose) => {
      const taken: unknown[] = []
      const choose: Choose = (about, from) => {
        const one = take(about, from)
        if (about === what && from.length > 1) taken.push(nameOf(one))
        return one
      }
      const bed = new Bed({ ...options, choose })
      make(bed)
      await withBed(bed, () => run(bed))
      return taken
    }
    const [first, last] = [await chosen(takeFirst), await chosen(takeLast)]
    t.ok(first.length > 0 && last.length > 0)
    t.not(first[0], last[0])
  })
}

function nameOf(option: unknown): unknown {
  if (typeof option !== 'object' || option === null) return option
  const { uuid, id, replica } = option as { uuid?: string; id?: string; replica?: { uuid: string } }
  return id ?? uuid ?? replica?.uuid
}
