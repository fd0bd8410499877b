import { pino } from 'pino'
import t from 'tap'
import { announcer } from '../src/announcer.js'
import type { NewEvent } from '../src/api/kubernetes.js'
import type { EventWriter } from '../src/clients/events.js'
import { createMetrics } from '../src/metrics.js'

const event = (key: string): NewEvent => ({
  regarding: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace: 'apps', name: 'data' },
  type: 'Normal',
  reason: 'MigrationStarted',
  message: 'm',
  key,
})

function announcing(write: EventWriter['write']) {
  const lines: Record<string, unknown>[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  const metrics = createMetrics({ version: '0' })
  const counted = async (outcome: string) => {
    const { values } = await metrics.eventsTotal.get()
    return values.find(({ labels }) => labels.reason === 'MigrationStarted' && labels.outcome === outcome)?.value
  }
  return { ...announcer({ writer: { write }, log, metrics }), lines, counted }
}

t.test('written, there already, or not written: counted, and in the log where it went wrong', async (t) => {
  const { announce, idle, lines, counted } = announcing(async ({ key }) =>
    key === 'no' ? { outcome: 'refused', detail: 'HTTP 403' } : { outcome: key === 'old' ? 'exists' : 'created' },
  )
  announce([event('new'), event('old'), event('no')])
  await idle()
  t.equal(await counted('created'), 1)
  t.equal(await counted('exists'), 1)
  t.equal(await counted('refused'), 1)
  t.match(lines, [
    { level: 40, msg: 'event not written', reason: 'MigrationStarted', detail: 'HTTP 403', name: 'data' },
  ])
})

t.test('nothing waits, and nothing is tried again', async (t) => {
  let release = () => {}
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  let calls = 0
  const { announce, idle, counted } = announcing(async () => {
    calls++
    await gate
    return { outcome: 'failed', detail: 'no answer' }
  })
  announce(Array.from({ length: 100 }, (_, index) => event(String(index))))
  t.equal(calls, 64, 'so many at once')
  t.equal(await counted('dropped'), 36, 'and no queue')
  release()
  await idle()
  t.equal(calls, 64)
  t.equal(await counted('failed'), 64)
  announce([event('later')])
  await idle()
  t.equal(calls, 65)
})
