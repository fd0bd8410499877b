import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { startLive } from '../../src/embedded/live.js'

const world = readFileSync(join(process.cwd(), 'manifests/components/simulated/world.yaml'), 'utf8')
interface Answer {
  readonly data: {
    readonly result: readonly {
      readonly metric: { readonly pv_name: string }
      readonly value: readonly [number, string]
    }[]
  }
}

async function read<T>(url: string): Promise<T> {
  return (await (await fetch(url)).json()) as T
}

t.test('the world of the manifests, on real time', async (t) => {
  const statuses = new Map<string, object>()
  let refusals = 1
  const lines: string[] = []
  const live = await startLive({
    world,
    host: '127.0.0.1',
    mayastorPort: 0,
    prometheusPort: 0,
    pools: async (name, status) => {
      if (refusals-- > 0) throw new Error('not now')
      statuses.set(name, status)
    },
    log: (line) => lines.push(line),
  })
  t.teardown(() => live.stop())

  t.test('Mayastor has its pools and volumes', async (t) => {
    const pools = await read<readonly { id: string }[]>(`${live.mayastorUrl}/v0/pools`)
    t.strictSame(
      pools.map(({ id }) => id).sort(),
      [...world.matchAll(/^kind: DiskPool\nmetadata:\n {2}name: (\S+)/gm)].map(([, name]) => name).sort(),
    )
    const { entries } = await read<{ entries: readonly object[] }>(`${live.mayastorUrl}/v0/volumes?max_entries=0`)
    t.equal(entries.length, world.match(/^kind: PersistentVolume$/gm)?.length)
  })

  t.test('Prometheus has an hour of their metrics, but of the one without', async (t) => {
    const query = 'sum by (pv_name) (max by (pv_name, node) (rate(volume_num_read_ops[1h])))'
    const { data } = await read<Answer>(`${live.prometheusUrl}/api/v1/query?query=${encodeURIComponent(query)}`)
    const rates = new Map<string, number>(data.result.map(({ metric, value }) => [metric.pv_name, Number(value[1])]))
    t.equal(rates.size, 7)
    t.ok(Math.abs((rates.get('pvc-5eed0000-0000-4000-8000-000000000001') ?? 0) - 6_300) < 1, 'seven tenths of 9000')
  })

  t.test('time goes on by itself, as the real one does', async (t) => {
    const { clock } = live.cluster
    const before = clock.now()
    while (clock.now() < before + 200) await setTimeout(10)
    t.ok(clock.now() <= Date.now() + 50, 'and not ahead of it')
  })

  t.test('the status of every DiskPool is kept, one that was refused in the next turn', async (t) => {
    while (statuses.size < 9) await setTimeout(50)
    for (const [name, status] of statuses) t.match(status, { pool_status: 'Online' }, name)
    t.strictSame(lines, ['DiskPool nvme-1: not now'])
  })
})

t.test('a world that cannot be read is refused', async (t) => {
  const start = (text: string) => startLive({ world: text, host: '127.0.0.1', mayastorPort: 0, prometheusPort: 0 })
  await t.rejects(start(world.replace('capacity: 20Gi', 'capacity: much')), { message: /nvme-1: a size such as 20Gi/ })
  await t.rejects(start(world.replace('pools: sata-1 sata-2', 'pools: sata-9')), { message: /sata-9/ })
})
