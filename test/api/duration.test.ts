import fc from 'fast-check'
import t from 'tap'
import { DURATION_MAX_LENGTH, parseDuration } from '../../src/api/duration.js'

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

t.test('parseDuration', async (t) => {
  const cases: Record<string, number | undefined> = {
    '1s': SECOND,
    '45s': 45 * SECOND,
    '90s': 90 * SECOND,
    '30m': 30 * MINUTE,
    '90m': 90 * MINUTE,
    '1h': HOUR,
    '24h': 24 * HOUR,
    '1h30m': 90 * MINUTE,
    '1h30s': HOUR + 30 * SECOND,
    '1m1s': MINUTE + SECOND,
    '1h2m3s': HOUR + 2 * MINUTE + 3 * SECOND,
    '01h': HOUR,
    '0h5m': 5 * MINUTE,
    '1h0m0s': HOUR,
    // exactly as long as allowed, and one longer
    '0000000001h1': undefined,
    '00000000001h': HOUR,
    '000000000001h': undefined,
    // nothing, and nothing above zero
    '': undefined,
    '0s': undefined,
    '0h0m0s': undefined,
    // other units, orders and spellings
    '1d': undefined,
    '1w': undefined,
    '500ms': undefined,
    '30m1h': undefined,
    '1h1h': undefined,
    '1.5h': undefined,
    '1e3s': undefined,
    '-1h': undefined,
    '+1h': undefined,
    '1H': undefined,
    '1 h': undefined,
    ' 1h': undefined,
    '1h\n': undefined,
    '1h 30m': undefined,
    '1hour': undefined,
    PT1H: undefined,
    h: undefined,
    '60': undefined,
    Infinity: undefined,
  }
  for (const [text, ms] of Object.entries(cases))
    t.test(JSON.stringify(text), async (t) => t.equal(parseDuration(text), ms))
})

t.test('every duration written as hours, minutes and seconds is read back', async (t) => {
  const part = fc.option(fc.integer({ min: 0, max: 999 }), { nil: undefined })
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(part, part, part, (h, m, s) => {
        const text = [
          h === undefined ? '' : `${h}h`,
          m === undefined ? '' : `${m}m`,
          s === undefined ? '' : `${s}s`,
        ].join('')
        const ms = (h ?? 0) * HOUR + (m ?? 0) * MINUTE + (s ?? 0) * SECOND
        return text.length <= DURATION_MAX_LENGTH && parseDuration(text) === (ms > 0 ? ms : undefined)
      }),
    ),
  )
})

t.test('any other text is no duration, and what is one is above zero', async (t) => {
  const digits = fc.string({ unit: fc.constantFrom(...'0123456789hms. -'), maxLength: DURATION_MAX_LENGTH + 2 })
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.oneof(fc.string(), digits), (text) => {
        const ms = parseDuration(text)
        return ms === undefined || (ms > 0 && Number.isFinite(ms) && /^[0-9hms]{2,12}$/.test(text))
      }),
    ),
  )
})
