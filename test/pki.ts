import { generate } from 'selfsigned'

/** Certificates for tests, made on the spot. */

export interface Leaf {
  /** PEM. */
  readonly certificate: string
  /** PEM. */
  readonly key: string
}

export interface Authority extends Leaf {
  issue(leaf?: LeafOptions): Promise<Leaf>
}

export interface LeafOptions {
  /** Default `localhost`. */
  readonly name?: string
  /** Default `server`, for 127.0.0.1 and localhost. */
  readonly usage?: 'server' | 'client'
  /** In hours from now, since when and until when it is valid. Default -1 and 1. */
  readonly hours?: readonly [number, number]
}

const hoursFromNow = (hours: number) => new Date(Date.now() + hours * 3_600_000)

export async function authority(name = 'test authority'): Promise<Authority> {
  const { cert, private: key } = await generate([{ name: 'commonName', value: name }], {
    keyType: 'ec',
    algorithm: 'sha256',
    notBeforeDate: hoursFromNow(-24),
    notAfterDate: hoursFromNow(24),
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    ],
  })
  return {
    certificate: cert,
    key,
    issue: async ({ name = 'localhost', usage = 'server', hours: [from, to] = [-1, 1] } = {}) => {
      const leaf = await generate([{ name: 'commonName', value: name }], {
        keyType: 'ec',
        algorithm: 'sha256',
        ca: { cert, key },
        notBeforeDate: hoursFromNow(from),
        notAfterDate: hoursFromNow(to),
        extensions: [
          { name: 'basicConstraints', cA: false, critical: true },
          { name: 'keyUsage', digitalSignature: true, critical: true },
          { name: 'extKeyUsage', serverAuth: usage === 'server', clientAuth: usage === 'client' },
          {
            name: 'subjectAltName',
            altNames: [
              { type: 2, value: 'localhost' },
              { type: 7, ip: '127.0.0.1' },
            ],
          },
        ],
      })
      return { certificate: leaf.cert, key: leaf.private }
    },
  }
}
