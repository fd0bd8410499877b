import t from 'tap'
import {
  fits,
  neededBytes,
  type PoolRoom,
  RESERVE_RATIO,
  UNDO_RATIO,
  type VolumeSize,
} from '../../src/plan/pool-fit.js'

const MIB = 2 ** 20
const GIB = 2 ** 30

t.test('bytes a new replica may need', async (t) => {
  const thin = (sizeBytes: number, allocatedBytes: number): VolumeSize => ({ sizeBytes, allocatedBytes, thin: true })
  const cases: readonly { name: string; volume: VolumeSize; needed: number }[] = [
    { name: 'thick: its size', volume: { sizeBytes: 100, thin: false, allocatedBytes: 0 }, needed: 100 },
    { name: 'thin, empty: 40 % of its size', volume: thin(100, 0), needed: 40 },
    { name: 'thin, half full: 40 % on top', volume: thin(100, 50), needed: 90 },
    { name: 'thin, 60 % allocated: just its size', volume: thin(100, 60), needed: 100 },
    { name: 'thin, 59 % allocated: one below its size', volume: thin(100, 59), needed: 99 },
    { name: 'thin, 61 % allocated: never more than its size', volume: thin(100, 61), needed: 100 },
    { name: 'thin, full', volume: thin(100, 100), needed: 100 },
    { name: 'thin, broken bytes are rounded up', volume: thin(101, 0), needed: 41 },
    { name: 'no size', volume: thin(0, 0), needed: 0 },
  ]
  for (const { name, volume, needed } of cases) t.equal(neededBytes(volume), needed, name)
})

t.test('room on a pool', async (t) => {
  const thick: VolumeSize = { sizeBytes: 100 * GIB, thin: false, allocatedBytes: 0 }
  const thin: VolumeSize = { sizeBytes: 100 * GIB, thin: true, allocatedBytes: 10 * GIB }
  const empty: PoolRoom = { capacityBytes: 1000 * GIB, freeBytes: 1000 * GIB, promisedBytes: 0 }
  const cases: readonly { name: string; volume?: VolumeSize; pool: Partial<PoolRoom>; fits: boolean }[] = [
    { name: 'empty pool', pool: {}, fits: true },
    { name: 'the reserve stays, exactly', pool: { freeBytes: 200 * GIB }, fits: true },
    { name: 'a byte of the reserve would go', pool: { freeBytes: 200 * GIB - 1 }, fits: false },
    { name: 'a byte above the reserve', pool: { freeBytes: 200 * GIB + 1 }, fits: true },
    { name: 'what is promised counts as used', pool: { freeBytes: 300 * GIB, promisedBytes: 100 * GIB }, fits: true },
    {
      name: 'a byte too much is promised',
      pool: { freeBytes: 300 * GIB, promisedBytes: 100 * GIB + 1 },
      fits: false,
    },
    { name: 'more promised than free', pool: { freeBytes: GIB, promisedBytes: 900 * GIB }, fits: false },
    { name: 'thin: allocated and 40 %, exactly', volume: thin, pool: { freeBytes: 150 * GIB }, fits: true },
    { name: 'thin: a byte less', volume: thin, pool: { freeBytes: 150 * GIB - 1 }, fits: false },
    {
      name: 'no bigger than the volume',
      volume: { ...thin, allocatedBytes: 0 },
      pool: { capacityBytes: 100 * GIB, freeBytes: 100 * GIB },
      fits: false,
    },
    {
      name: 'a byte bigger than the volume',
      volume: { ...thin, allocatedBytes: 0 },
      pool: { capacityBytes: 100 * GIB + 1, freeBytes: 100 * GIB + 1 },
      fits: true,
    },
    { name: 'no capacity at all', pool: { capacityBytes: 0, freeBytes: 0 }, fits: false },
    { name: 'thin: commitment at its limit', volume: thin, pool: { committedBytes: 2400 * GIB }, fits: false },
    { name: 'thin: commitment a byte below', volume: thin, pool: { committedBytes: 2400 * GIB - 1 }, fits: true },
    {
      name: 'thin: what is promised is committed as well',
      volume: thin,
      pool: { committedBytes: 2300 * GIB, promisedBytes: 100 * GIB },
      fits: false,
    },
    { name: 'thick: commitment is not asked', pool: { committedBytes: 9000 * GIB }, fits: true },
  ]
  for (const { name, volume = thick, pool, fits: wanted } of cases)
    t.equal(fits(volume, { ...empty, ...pool }), wanted, name)
})

t.test('a rebuild is undone well before the pool is full', async (t) => {
  t.equal(UNDO_RATIO, RESERVE_RATIO / 2)
  t.ok(UNDO_RATIO * 10 * GIB > 16 * MIB, "Mayastor's own minimum for thin replicas is far below")
})
