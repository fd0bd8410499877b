import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { systemClock } from '../src/clock.js'
import { BadFile, type Change, type FileText, mountedFiles } from '../src/mounted-files.js'
import { manualClock } from './manual-clock.js'
import { SecretVolume } from './secret-volume.js'

const joined = (...files: readonly FileText[]) => {
  if (files.some(({ text }) => text.includes('bad'))) throw new BadFile('it is bad')
  return files.map(({ text }) => text).join('+')
}

/** Collects changes; `next` settles with the next one. */
function changes() {
  const all: Change<string>[] = []
  let told = () => {}
  return {
    all,
    onChange: (change: Change<string>) => {
      all.push(change)
      told()
    },
    next: async () => {
      const seen = all.length
      while (all.length === seen) {
        await new Promise<void>((resolve) => {
          told = resolve
        })
      }
      return all.at(-1)
    },
  }
}

/** On the machine's clock, with something that keeps the process alive. */
async function watching(t: Test, paths: readonly string[]) {
  const busy = setInterval(() => {}, 1_000)
  const { all, next, onChange } = changes()
  const mounted = await mountedFiles({ paths, read: (files) => joined(...files), clock: systemClock, onChange })
  t.teardown(() => {
    mounted.stop()
    clearInterval(busy)
  })
  return { mounted, all, next }
}

t.test('a Secret that is replaced', async (t) => {
  const volume = new SecretVolume(`${t.testdir({})}/secret`, { cert: 'c1', key: 'k1' })
  const { mounted, next } = await watching(t, [volume.path('cert'), volume.path('key')])
  t.equal(mounted.current(), 'c1+k1')
  for (const version of [2, 3, 4]) {
    const changed = next()
    volume.replace({ cert: `c${version}`, key: `k${version}` })
    t.strictSame(await changed, { kind: 'loaded', value: `c${version}+k${version}` })
    t.equal(mounted.current(), `c${version}+k${version}`)
  }
})

t.test('files that cannot be used leave the value as it was', async (t) => {
  const volume = new SecretVolume(`${t.testdir({})}/secret`, { token: 'one' })
  const { mounted, next, all } = await watching(t, [volume.path('token')])
  let changed = next()
  volume.replace({ token: 'bad' })
  t.strictSame(await changed, { kind: 'kept', problem: 'it is bad' })
  t.equal(mounted.current(), 'one')
  changed = next()
  volume.replace({})
  t.strictSame(await changed, { kind: 'kept', problem: `cannot read ${volume.path('token')}: no such file` })
  t.equal(mounted.current(), 'one')
  changed = next()
  volume.replace({ token: 'one' })
  t.strictSame(await changed, { kind: 'loaded', value: 'one' }, 'the old content is good news after a bad one')
  t.equal(all.length, 3, 'each change is told once')
})

t.test('a file that is written over, and one that is renamed over', async (t) => {
  const dir = t.testdir({ token: 'one' })
  const { next } = await watching(t, [`${dir}/token`])
  let changed = next()
  writeFileSync(`${dir}/token`, 'two')
  t.strictSame(await changed, { kind: 'loaded', value: 'two' })
  changed = next()
  writeFileSync(`${dir}/new`, 'three')
  renameSync(`${dir}/new`, `${dir}/token`)
  t.strictSame(await changed, { kind: 'loaded', value: 'three' })
})

t.test('what the watch does not see is seen by the poll', async (t) => {
  const dir = t.testdir({ elsewhere: { token: 'one' }, here: {} })
  symlinkSync(`${dir}/elsewhere/token`, `${dir}/here/token`)
  const { clock, pass, timers } = manualClock()
  const { all, next, onChange } = changes()
  const paths = [`${dir}/here/token`] as const
  const mounted = await mountedFiles({ paths, read: ([file]) => joined(file), clock, onChange })
  let changed = next()
  writeFileSync(`${dir}/elsewhere/token`, 'two')
  await pass(29_999)
  t.equal(mounted.current(), 'one')
  await pass(1)
  t.strictSame(await changed, { kind: 'loaded', value: 'two' })
  changed = next()
  writeFileSync(`${dir}/elsewhere/token`, 'three')
  await pass(30_000)
  t.strictSame(await changed, { kind: 'loaded', value: 'three' }, 'again and again')
  mounted.stop()
  t.equal(timers(), 0)
  t.equal(all.length, 2)
})

t.test('what cannot be used at the start', async (t) => {
  const dir = t.testdir({ bad: 'bad', folder: {} })
  const open = (path: string) =>
    mountedFiles({
      paths: [path],
      read: ([file]) => joined(file),
      clock: systemClock,
      onChange: () => t.fail('nothing changes'),
    })
  await t.rejects(open(`${dir}/bad`), new BadFile('it is bad'))
  await t.rejects(open(`${dir}/missing`), new BadFile(`cannot read ${dir}/missing: no such file`))
  await t.rejects(open(`${dir}/folder`), new BadFile(`cannot read ${dir}/folder: it is a folder`))
})

t.test('a folder that is gone', async (t) => {
  const dir = t.testdir({ secret: { token: 'one' } })
  const { mounted, next } = await watching(t, [`${dir}/secret/token`])
  const changed = next()
  rmSync(`${dir}/secret`, { recursive: true })
  t.match(await changed, { kind: 'kept' })
  t.equal(mounted.current(), 'one')
})
