import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { systemClock } from '../src/clock.js'
import { createHealth, serveHealth } from '../src/health.js'

const script = fileURLToPath(new URL('../src/healthcheck.js', import.meta.url))

async function exitCode(env: NodeJS.ProcessEnv): Promise<number> {
  const child = spawn(process.execPath, [script], { env: { PATH: process.env['PATH'], ...env }, stdio: 'ignore' })
  const [code] = await once(child, 'exit')
  return code
}

t.test('it is healthy while /healthz answers, at the address of the operator', async (t) => {
  for (const host of ['127.0.0.1', '0.0.0.0']) {
    const server = await serveHealth({ host, port: 0 }, createHealth(systemClock))
    t.teardown(() => server.close())
    t.equal(await exitCode({ HEALTH_ADDR: `${host}:${server.address.port}` }), 0, host)
    await server.close()
    t.equal(await exitCode({ HEALTH_ADDR: `${host}:${server.address.port}` }), 1, `${host}, when nobody listens`)
  }
})

t.test('another answer than 200 is not healthy', async (t) => {
  const server = createServer((_request, response) => response.writeHead(503).end()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  t.equal(await exitCode({ HEALTH_ADDR: `127.0.0.1:${(server.address() as AddressInfo).port}` }), 1)
})

t.test('the image asks it, and is of full versions', async (t) => {
  const dockerfile = readFileSync(join(process.cwd(), 'Dockerfile'), 'utf8')
  t.match(dockerfile, /^HEALTHCHECK .*"\/app\/dist\/src\/healthcheck\.js"\]$/m)
  t.match(dockerfile, /^ARG NODE_IMAGE=node:\d+\.\d+\.\d+-[a-z]+-slim$/m)
  t.match(dockerfile, /^USER \d+:\d+$/m)
})
