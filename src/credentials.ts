import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { BadFile, type FileText } from './mounted-files.js'

/** What certificates, keys and tokens in files look like. Everything here throws BadFile. */

/** CA certificates to trust. */
export interface Authorities {
  /** PEM, one after the other. */
  readonly certificates: string
  /** When the first of them expires, milliseconds since the epoch. */
  readonly expiresAt: number
}

/** A certificate with its chain and its private key, all PEM. */
export interface KeyPair {
  readonly certificate: string
  readonly key: string
  /** When the certificate expires, milliseconds since the epoch. */
  readonly expiresAt: number
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g
/** A bearer token, RFC 6750. */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/

export function readAuthorities(file: FileText): Authorities {
  const certificates = readCertificates(file)
  return { certificates: certificates.join(''), expiresAt: Math.min(...certificates.map(expiryOf)) }
}

export function readKeyPair(certificate: FileText, key: FileText): KeyPair {
  const [leaf] = readCertificates(certificate)
  if (leaf?.checkPrivateKey(readPrivateKey(key)) !== true) {
    throw new BadFile(`the key in ${key.path} does not belong to the certificate in ${certificate.path}`)
  }
  try {
    createSecureContext({ cert: certificate.text, key: key.text })
  } catch (cause) {
    throw new BadFile(`OpenSSL refuses the certificate in ${certificate.path} or its key`, { cause })
  }
  return { certificate: certificate.text, key: key.text, expiresAt: expiryOf(leaf) }
}

/** One token a line; blank lines do not count. */
export function readTokens({ path, text }: FileText): readonly string[] {
  const tokens = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  if (tokens.length === 0) throw new BadFile(`${path} holds no token`)
  if (!tokens.every((token) => TOKEN.test(token))) throw new BadFile(`${path} holds a line that is not a bearer token`)
  return tokens
}

export function readToken(file: FileText): string {
  const [token = '', ...others] = readTokens(file)
  if (others.length > 0) throw new BadFile(`${file.path} holds several tokens, and one is to be sent`)
  return token
}

function readCertificates({ path, text }: FileText): readonly X509Certificate[] {
  const found = text.match(PEM_CERTIFICATE) ?? []
  if (found.length === 0) throw new BadFile(`${path} holds no certificate in PEM form`)
  return found.map((pem) => {
    try {
      return new X509Certificate(pem)
    } catch (cause) {
      throw new BadFile(`${path} holds a certificate that cannot be read`, { cause })
    }
  })
}

function readPrivateKey({ path, text }: FileText): KeyObject {
  if (text.includes('ENCRYPTED')) throw new BadFile(`${path} holds a private key with a passphrase`)
  try {
    return createPrivateKey(text)
  } catch (cause) {
    throw new BadFile(`${path} holds no private key in PEM form`, { cause })
  }
}

const expiryOf = (certificate: X509Certificate): number => Date.parse(certificate.validTo)
