// What test_node_client.py runs with node: one line of JSON per step on stdout.
import * as k8s from '@kubernetes/client-node';
import { PassThrough, Writable } from 'node:stream';

const [namespace, image] = process.argv.slice(2);
const kc = new k8s.KubeConfig();
kc.loadFromDefault();
const core = kc.makeApiClient(k8s.CoreV1Api);
const apps = kc.makeApiClient(k8s.AppsV1Api);
const tell = (step, value) => console.log(JSON.stringify({ step, value }));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function objects() {
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' }, data: { k: '1' } } });
  const found = await core.readNamespacedConfigMap({ name: 'a', namespace });
  found.data.k = '2';
  const replaced = await core.replaceNamespacedConfigMap({ name: 'a', namespace, body: found });
  tell('replaced', replaced.data);
  const patched = await core.patchNamespacedConfigMap(
    { name: 'a', namespace, body: [{ op: 'add', path: '/data/l', value: '3' }] });
  tell('patched', patched.data);
  try {
    await core.readNamespacedConfigMap({ name: 'nobody', namespace });
  } catch (e) {
    tell('missing', e.code);
  }
}

async function informer() {
  const seen = [];
  const list = () => core.listNamespacedConfigMap({ namespace });
  const informed = k8s.makeInformer(kc, `/api/v1/namespaces/${namespace}/configmaps`, list);
  for (const event of ['add', 'update', 'delete']) {
    informed.on(event, (obj) => { if (obj.metadata.name.startsWith('i')) seen.push(`${event} ${obj.metadata.name}`); });
  }
  await informed.start();
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'i' } } });
  await pause(200);
  await core.replaceNamespacedConfigMap({ name: 'i', namespace, body: { metadata: { name: 'i' }, data: { x: 'y' } } });
  await pause(200);
  await core.deleteNamespacedConfigMap({ name: 'i', namespace });
  for (let n = 0; n < 50 && seen.length < 3; n++) await pause(100);
  await informed.stop();
  tell('informer', seen);
}

async function generic() {
  const client = k8s.KubernetesObjectApi.makeApiClient(kc);
  const spec = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'd', namespace },
    spec: { replicas: 0, selector: { matchLabels: { a: 'b' } },
      template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image }] } } } };
  await client.create(spec);
  const read = await client.read(spec);
  tell('generic', [read.kind, read.spec.replicas]);
  const scale = await apps.readNamespacedDeploymentScale({ name: 'd', namespace });
  tell('scale', scale.spec.replicas ?? 0);
}

async function exec() {
  const container = { name: 'c', image, command: ['sh', '-c', 'trap exit TERM; sleep 1000 & wait'] };
  const spec = { containers: [container], terminationGracePeriodSeconds: 0 };
  await core.createNamespacedPod({ namespace, body: { metadata: { name: 'p' }, spec } });
  for (let n = 0; n < 100; n++) {
    if ((await core.readNamespacedPod({ name: 'p', namespace })).status.phase === 'Running') break;
    await pause(100);
  }
  let out = '';
  const sink = new Writable({ write(chunk, _, done) { out += chunk; done(); } });
  const stdin = new PassThrough();
  const status = await new Promise((resolve, reject) => {
    new k8s.Exec(kc).exec(namespace, 'p', 'c', ['sh', '-c', 'read x; echo got $x; exit 3'], sink, sink, stdin, false, resolve)
      .catch(reject);
    stdin.write('word\n');
  });
  tell('exec', [out.trim(), status.status, status.details.causes[0].message]);
}

await objects();
await informer();
await generic();
await exec();
process.exit(0);
