import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import t from 'tap'
import { readAuthorities, readKeyPair, readToken, readTokens } from '../src/credentials.js'
import { BadFile, type FileText } from '../src/mounted-files.js'
import { authority } from './pki.js'

const file = (text: string, path = '/file'): FileText => ({ path, text })

t.test('tokens', async (t) => {
  const good: [string, readonly string[]][] = [
    ['secret', ['secret']],
    ['secret\n', ['secret']],
    ['  old \r\n\n new==\n', ['old', 'new==']],
    ['a.b-c_d~e+f/9', ['a.b-c_d~e+f/9']],
  ]
  for (const [text, tokens] of good) t.strictSame(readTokens(file(text)), tokens)
  for (const text of ['', ' \n\t']) t.throws(() => readTokens(file(text)), new BadFile('/file holds no token'))
  for (const text of ['two words', 'a\nsécret', '=', '{"token":"a"}', 'a\u0000b']) {
    t.throws(() => readTokens(file(text)), new BadFile('/file holds a line that is not a bearer token'))
  }
  t.equal(readToken(file('one\n')), 'one')
  t.throws(() => readToken(file('one\ntwo')), new BadFile('/file holds several tokens, and one is to be sent'))
})

t.test('authorities', async (t) => {
  const one = await authority('one')
  const two = await authority('two')
  const bundle = `# our CAs\n${one.certificate}\nand\n${two.certificate}`
  const { certificates, expiresAt } = readAuthorities(file(bundle))
  t.equal(expiresAt, Date.parse(new X509Certificate(one.certificate).validTo))
  t.strictSame((certificates.match(/-----BEGIN/g) ?? []).length, 2, 'both, and nothing of what stands between them')
  t.match(certificates, /^(-----BEGIN CERTIFICATE-----\n[^-]+\n-----END CERTIFICATE-----\n){2}$/)
  t.throws(() => readAuthorities(file('')), new BadFile('/file holds no certificate in PEM form'))
  t.throws(() => readAuthorities(file(one.key)), new BadFile('/file holds no certificate in PEM form'))
  const broken = `${one.certificate}${two.certificate.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA')}`
  t.throws(() => readAuthorities(file(broken)), new BadFile('/file holds a certificate that cannot be read'))
})

t.test('a certificate and its key', async (t) => {
  const ca = await authority()
  const leaf = await ca.issue()
  const other = await ca.issue()
  const chain = `${leaf.certificate}\n${ca.certificate}`
  const read = (certificate: string, key: string) => readKeyPair(file(certificate, '/tls.crt'), file(key, '/tls.key'))
  t.strictSame(read(chain, leaf.key), {
    certificate: chain,
    key: leaf.key,
    expiresAt: Date.parse(new X509Certificate(leaf.certificate).validTo),
  })
  const locked = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  })
  const cases: [string, string, string][] = [
    [other.certificate, leaf.key, 'the key in /tls.key does not belong to the certificate in /tls.crt'],
    [ca.certificate + leaf.certificate, leaf.key, 'the key in /tls.key does not belong to the certificate in /tls.crt'],
    [leaf.certificate, '', '/tls.key holds no private key in PEM form'],
    [leaf.certificate, leaf.certificate, '/tls.key holds no private key in PEM form'],
    [leaf.certificate, locked.privateKey, '/tls.key holds a private key with a passphrase'],
    ['', leaf.key, '/tls.crt holds no certificate in PEM form'],
  ]
  for (const [certificate, key, message] of cases) t.throws(() => read(certificate, key), new BadFile(message))
})
