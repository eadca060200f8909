"""Every sentence that `jota why` can say, in English and Korean. A code has both, and both have the same placeholders
(a test checks it). `{fix}` lines begin with "->" when printed."""

from __future__ import annotations

from typing import NamedTuple


class Text(NamedTuple):
    en: str
    ko: str
    fix_en: str = ""
    fix_ko: str = ""


TEXTS: dict[str, Text] = {
    "absent": Text(
        "there is no such object", "그런 객체가 없습니다", "look at: kubectl get {plural}", "확인: kubectl get {plural}"
    ),
    "absent-near": Text("there is no such object; did you mean {near}?", "그런 객체가 없습니다. 혹시 {near}인가요?"),
    "healthy": Text("nothing is wrong: {state}", "문제가 없습니다: {state}"),
    "terminating-finalizers": Text(
        "it is being deleted and waits for the finalizers {finalizers}",
        "삭제 중이며 finalizer {finalizers}를 기다립니다",
        "the controller that set them must remove them; if it is gone for good, remove them by hand (kubectl edit)",
        "그것을 붙인 컨트롤러가 지워야 합니다. 컨트롤러가 완전히 사라졌다면 직접 지우십시오(kubectl edit)",
    ),
    "terminating-grace": Text(
        "it is being deleted: its containers have {seconds} s left to end by themselves",
        "삭제 중입니다. 컨테이너가 스스로 끝날 때까지 {seconds}초 남았습니다",
    ),
    "terminating-node": Text(
        "it is being deleted, but its node {node} does not answer",
        "삭제 중이지만 노드 {node}가 응답하지 않습니다",
        "bring the node back, or: kubectl delete pod {name} --force --grace-period=0",
        "노드를 되살리거나: kubectl delete pod {name} --force --grace-period=0",
    ),
    "unscheduled": Text("no node takes it: {message}", "받아 줄 노드가 없습니다: {message}"),
    "unscheduled-quiet": Text(
        "no scheduler has looked at it yet (schedulerName: {scheduler})",
        "아직 어떤 스케줄러도 처리하지 않았습니다 (schedulerName: {scheduler})",
        "is a scheduler of that name running?",
        "그 이름의 스케줄러가 실행 중인지 확인하십시오",
    ),
    "gated": Text(
        "it is held back by the scheduling gates {gates}",
        "스케줄링 게이트 {gates} 때문에 대기 중입니다",
        "whoever set them must remove them from spec.schedulingGates",
        "그것을 설정한 쪽에서 spec.schedulingGates에서 지워야 합니다",
    ),
    "daemon-nowhere": Text(
        "no node is one that its pods may run on",
        "파드를 실행할 수 있는 노드가 없습니다",
        "look at its nodeSelector, affinity and tolerations, and at the nodes' labels and taints",
        "nodeSelector, affinity, tolerations와 노드의 레이블, 테인트를 확인하십시오",
    ),
    "managed-by": Text(
        "another controller is to run it (managedBy: {manager}): it is left alone here",
        "다른 컨트롤러가 실행해야 합니다 (managedBy: {manager}). 여기서는 손대지 않습니다",
        "is that controller running?",
        "그 컨트롤러가 실행 중인지 확인하십시오",
    ),
    "cron-forbid": Text(
        "job {job} still runs, and concurrencyPolicy Forbid starts no other beside it",
        "잡 {job}이(가) 아직 실행 중이며, concurrencyPolicy가 Forbid라서 새로 시작하지 않습니다",
        "kubectl describe job {job}",
        "kubectl describe job {job}",
    ),
    "cron-refused": Text("its jobs are not made: {message}", "잡을 만들지 못합니다: {message}"),
    "budget-unknown": Text(
        "it cannot be counted, so nobody may go: {message}",
        "계산할 수 없어서 아무 파드도 축출할 수 없습니다: {message}",
    ),
    "budget-nobody": Text(
        "its selector matches no pod: it protects nothing",
        "셀렉터와 일치하는 파드가 없어서 아무것도 보호하지 않습니다",
        "compare spec.selector with the labels of the pods",
        "spec.selector와 파드의 레이블을 비교하십시오",
    ),
    "budget-never": Text(
        "it needs {needed} of {expected} pods healthy: it never lets one go, and drains wait for ever",
        "파드 {expected}개 중 {needed}개가 정상이어야 하므로 축출이 전혀 허용되지 않고, drain이 끝나지 않습니다",
        "run one more replica, or ask for less in minAvailable or maxUnavailable",
        "레플리카를 하나 늘리거나 minAvailable 또는 maxUnavailable을 완화하십시오",
    ),
    "budget-spent": Text(
        "{healthy} pods are healthy of {expected}, {needed} must be: none may go now",
        "파드 {expected}개 중 {healthy}개가 정상이고 {needed}개가 필요하므로 지금은 축출할 수 없습니다",
        "wait until more of its pods are ready",
        "더 많은 파드가 준비될 때까지 기다리십시오",
    ),
    "no-affine-node": Text(
        "no node is what its node affinity asks for: {terms}",
        "노드 어피니티 조건에 맞는 노드가 없습니다: {terms}",
        "label a node so, or change spec.affinity.nodeAffinity",
        "노드에 그 레이블을 붙이거나 spec.affinity.nodeAffinity를 바꾸십시오",
    ),
    "host-port": Text(
        "the host port {port} is taken on every node",
        "호스트 포트 {port}가 모든 노드에서 사용 중입니다",
        "use a Service instead of hostPort, or add a node",
        "hostPort 대신 Service를 쓰거나 노드를 추가하십시오",
    ),
    "affinity-nobody": Text(
        "its pod affinity wants it near pods with {labels} (by {key}), and none of these has a node",
        "파드 어피니티가 {labels} 파드 가까이({key} 기준)를 요구하지만, 노드에 배치된 그런 파드가 없습니다",
        "start those pods first, or correct the selector",
        "그 파드들을 먼저 시작하거나 셀렉터를 고치십시오",
    ),
    "anti-affinity": Text(
        "its pod anti-affinity keeps it away from pods with {labels} (by {key}), and every place has one",
        "파드 안티어피니티가 {labels} 파드를 피하도록({key} 기준) 하지만, 그런 파드가 없는 곳이 없습니다",
        "add a node, run fewer replicas, or make the rule preferred",
        "노드를 추가하거나, 레플리카를 줄이거나, 규칙을 preferred로 바꾸십시오",
    ),
    "no-topology": Text(
        "it is to be spread by {key}, and no node has that label",
        "{key} 기준으로 분산해야 하지만, 그 레이블이 있는 노드가 없습니다",
        "kubectl label node NODE {key}=VALUE",
        "kubectl label node NODE {key}=VALUE",
    ),
    "no-nodes": Text(
        "the cluster has no nodes",
        "클러스터에 노드가 없습니다",
        "add one: jota agent",
        "노드를 추가하십시오: jota agent",
    ),
    "short-of": Text(
        "it asks for {asked} {resource}; the nearest miss is node {node}, which has {free} of {total} free",
        "{resource} {asked}을(를) 요청하지만, 가장 가까운 노드 {node}에는 {total} 중 {free}만 비어 있습니다",
        "request at most {free}, free {missing} on {node}, or add a node",
        "요청을 {free} 이하로 줄이거나, {node}에서 {missing}을(를) 비우거나, 노드를 추가하십시오",
    ),
    "too-big": Text(
        "it asks for {asked} {resource}; the largest node, {node}, has only {total} in all",
        "{resource} {asked}을(를) 요청하지만, 가장 큰 노드 {node}도 전체가 {total}뿐입니다",
        "request at most {total}, or add a larger node",
        "요청을 {total} 이하로 줄이거나 더 큰 노드를 추가하십시오",
    ),
    "cordoned": Text(
        "node {node} is cordoned",
        "노드 {node}는 스케줄링이 막혀 있습니다",
        "kubectl uncordon {node}",
        "kubectl uncordon {node}",
    ),
    "tainted": Text(
        "node {node} has the taint {taint}, which the pod does not tolerate",
        "노드 {node}에는 파드가 허용하지 않는 테인트 {taint}가 있습니다",
        "kubectl taint node {node} {taint}-, or add a toleration",
        "kubectl taint node {node} {taint}- 또는 toleration을 추가하십시오",
    ),
    "no-label": Text(
        "no node has the label {label} that spec.nodeSelector asks for",
        "spec.nodeSelector가 요구하는 레이블 {label}을 가진 노드가 없습니다",
        "kubectl label node NODE {label}",
        "kubectl label node 노드 {label}",
    ),
    "image": Text(
        "container {container} has no image: {message}", "컨테이너 {container}의 이미지가 없습니다: {message}"
    ),
    "image-absent": Text(
        "image {image} could not be had",
        "이미지 {image}를 가져올 수 없습니다",
        "check the name; load it (jota image load FILE) or give imagePullSecrets",
        "이름을 확인하고, 불러오거나(jota image load 파일) imagePullSecrets를 지정하십시오",
    ),
    "image-always": Text(
        "imagePullPolicy is Always, so a local copy is not used (the tag :latest means Always)",
        "imagePullPolicy가 Always라서 로컬 이미지를 쓰지 않습니다(:latest 태그는 Always입니다)",
        "set imagePullPolicy: IfNotPresent, or use another tag",
        "imagePullPolicy: IfNotPresent로 바꾸거나 다른 태그를 쓰십시오",
    ),
    "config": Text(
        "container {container} cannot be configured: {message}", "컨테이너 {container}를 설정할 수 없습니다: {message}"
    ),
    "claim-absent": Text(
        "PersistentVolumeClaim {name} does not exist in this namespace",
        "이 네임스페이스에 PersistentVolumeClaim {name}이(가) 없습니다",
        "create it: the pod waits for it",
        "만드십시오. 파드가 그것을 기다립니다",
    ),
    "claim-absent-near": Text(
        "PersistentVolumeClaim {name} does not exist in this namespace; did you mean {near}?",
        "이 네임스페이스에 PersistentVolumeClaim {name}이(가) 없습니다. 혹시 {near}인가요?",
    ),
    "volume-absent": Text(
        "the PersistentVolume {name} that it names does not exist",
        "지정한 PersistentVolume {name}이(가) 없습니다",
        "create it, or make the claim anew without volumeName",
        "만들거나, volumeName 없이 클레임을 다시 만드십시오",
    ),
    "config-absent": Text(
        "{what} {name} does not exist in this namespace",
        "이 네임스페이스에 {what} {name}이(가) 없습니다",
        "create it, or mark the reference optional",
        "만들거나, 참조를 optional로 표시하십시오",
    ),
    "config-absent-near": Text(
        "{what} {name} does not exist in this namespace; did you mean {near}?",
        "이 네임스페이스에 {what} {name}이(가) 없습니다. 혹시 {near}인가요?",
    ),
    "volume": Text("its volumes are not ready: {message}", "볼륨이 준비되지 않았습니다: {message}"),
    "devices": Text("its devices are not ready: {message}", "장치가 준비되지 않았습니다: {message}"),
    "sandbox": Text("its sandbox could not be made: {message}", "샌드박스를 만들지 못했습니다: {message}"),
    "starting": Text(
        "container {container} is being started ({reason})", "컨테이너 {container}를 시작하는 중입니다 ({reason})"
    ),
    "crash": Text(
        "container {container} ended {times} times, last with exit code {code}: {meaning}",
        "컨테이너 {container}가 {times}번 종료되었습니다. 마지막 종료 코드 {code}: {meaning}",
        "kubectl logs {pod} -c {container} --previous",
        "kubectl logs {pod} -c {container} --previous",
    ),
    "said": Text("its last words: {line}", "마지막 출력: {line}"),
    "oom": Text(
        "container {container} used more memory than its limit of {limit} and was killed by the kernel (OOMKilled)",
        "컨테이너 {container}가 메모리 한도 {limit}을 넘어 커널이 종료했습니다 (OOMKilled)",
        "raise resources.limits.memory, or make it use less",
        "resources.limits.memory를 올리거나 사용량을 줄이십시오",
    ),
    "unready": Text(
        "container {container} runs but its readiness probe fails: {message}",
        "컨테이너 {container}는 실행 중이지만 readiness 프로브가 실패합니다: {message}",
        "is the port and path of the probe right? kubectl logs {pod} -c {container}",
        "프로브의 포트와 경로가 맞는지 확인하십시오. kubectl logs {pod} -c {container}",
    ),
    "unready-quiet": Text(
        "container {container} runs but its readiness probe has not answered yet",
        "컨테이너 {container}는 실행 중이지만 readiness 프로브가 아직 응답하지 않았습니다",
        "is the port and path of the probe right? kubectl logs {pod} -c {container}",
        "프로브의 포트와 경로가 맞는지 확인하십시오. kubectl logs {pod} -c {container}",
    ),
    "liveness": Text(
        "its liveness probe fails, so it is restarted again and again: {message}",
        "liveness 프로브가 실패하여 계속 재시작됩니다: {message}",
    ),
    "init": Text(
        "init container {container} has not finished, the others wait for it",
        "초기화 컨테이너 {container}가 끝나지 않아 나머지가 기다립니다",
    ),
    "failed": Text("it has failed for good: {reason} {message}", "완전히 실패했습니다: {reason} {message}"),
    "node-down": Text(
        "its node {node} is not ready: {message}",
        "노드 {node}가 준비되지 않았습니다: {message}",
        "is the machine up and its agent running? (jota status)",
        "장비가 켜져 있고 에이전트가 실행 중인지 확인하십시오 (jota status)",
    ),
    "node-absent": Text(
        "its node {node} is not in the cluster",
        "노드 {node}가 클러스터에 없습니다",
        "is the machine up and its agent running? (jota status)",
        "장비가 켜져 있고 에이전트가 실행 중인지 확인하십시오 (jota status)",
    ),
    "node-silent": Text(
        "its node {node} has not reported yet",
        "노드 {node}가 아직 상태를 보고하지 않았습니다",
        "is the machine up and its agent running? (jota status)",
        "장비가 켜져 있고 에이전트가 실행 중인지 확인하십시오 (jota status)",
    ),
    "paused": Text(
        "it is paused: changes are not rolled out",
        "일시 중지되어 변경이 적용되지 않습니다",
        "kubectl rollout resume {subject}",
        "kubectl rollout resume {subject}",
    ),
    "zero": Text(
        "it asks for 0 replicas",
        "복제본 수가 0입니다",
        "kubectl scale {subject} --replicas=1",
        "kubectl scale {subject} --replicas=1",
    ),
    "refused-pods": Text("its pods are refused: {message}", "파드 생성이 거부됩니다: {message}"),
    "progress": Text(
        "{ready} of {wanted} pods are ready, {updated} of the newest version",
        "{wanted}개 중 {ready}개 준비됨, 최신 버전 {updated}개",
    ),
    "deadline": Text("the rollout made no progress for {seconds} s", "{seconds}초 동안 롤아웃이 진행되지 않았습니다"),
    "blocked-by": Text("it waits for {other}", "{other}을(를) 기다립니다"),
    "no-selector": Text(
        "it has no selector, so its endpoints are made by hand, and there are none",
        "셀렉터가 없어 엔드포인트를 직접 만들어야 하는데 없습니다",
    ),
    "no-match": Text(
        "its selector {selector} matches no pod",
        "셀렉터 {selector}와 일치하는 파드가 없습니다",
        "compare with: kubectl get pods --show-labels",
        "비교: kubectl get pods --show-labels",
    ),
    "no-match-near": Text(
        "its selector {selector} matches no pod; the nearest is {near} with {labels}",
        "셀렉터 {selector}와 일치하는 파드가 없습니다. 가장 비슷한 것은 {near} ({labels})입니다",
        "change the selector of the service or the labels of the pods",
        "서비스의 셀렉터나 파드의 레이블을 고치십시오",
    ),
    "none-ready": Text("{count} pods match, but none is ready", "{count}개 파드가 일치하지만 준비된 것이 없습니다"),
    "no-port": Text(
        'targetPort "{port}" is the name of no container port in {pod}',
        'targetPort "{port}"라는 이름의 컨테이너 포트가 {pod}에 없습니다',
        "name the port in the pod (spec.containers[].ports[].name), or use its number",
        "파드에서 포트에 이름을 붙이거나(spec.containers[].ports[].name) 번호를 쓰십시오",
    ),
    "endpoints": Text("{count} endpoints answer on {address}", "{address}에서 엔드포인트 {count}개가 응답합니다"),
    "no-class": Text(
        "StorageClass {name} does not exist",
        "StorageClass {name}이(가) 없습니다",
        "kubectl get storageclass",
        "kubectl get storageclass",
    ),
    "no-default-class": Text(
        "it names no StorageClass, and the cluster has no default one",
        "StorageClass를 지정하지 않았고 클러스터에 기본 StorageClass도 없습니다",
        "set spec.storageClassName, or make a PersistentVolume that fits",
        "spec.storageClassName을 지정하거나 맞는 PersistentVolume을 만드십시오",
    ),
    "first-consumer": Text(
        "it waits for the first pod that uses it (WaitForFirstConsumer)",
        "이것을 사용할 첫 파드를 기다립니다 (WaitForFirstConsumer)",
    ),
    "unbound": Text("it is not bound: {message}", "바인딩되지 않았습니다: {message}"),
    "namespace-left": Text("it is being deleted; left in it: {what}", "삭제 중이며 남아 있는 것: {what}"),
    "condition": Text("{type} is {status}: {message}", "{type} 상태가 {status}입니다: {message}"),
    "suspended": Text(
        "it is suspended",
        "일시 중단되었습니다",
        'kubectl patch {subject} -p \'{{"spec":{{"suspend":false}}}}\'',
        'kubectl patch {subject} -p \'{{"spec":{{"suspend":false}}}}\'',
    ),
    "denied": Text("not everything could be read: {message}", "일부를 읽을 수 없었습니다: {message}"),
}

EXIT_CODES: dict[int, tuple[str, str]] = {
    0: (
        "it ended well, and is restarted because restartPolicy is Always",
        "정상 종료했지만 restartPolicy가 Always라서 재시작됩니다",
    ),
    1: ("the program reported an error", "프로그램이 오류를 보고했습니다"),
    2: ("the program or shell was used wrongly", "프로그램이나 셸을 잘못 사용했습니다"),
    126: ("the command is there but not executable", "명령이 있지만 실행할 수 없습니다"),
    127: ("the command was not found in the image", "이미지에 그 명령이 없습니다"),
    128: ("the container could not be started", "컨테이너를 시작할 수 없었습니다"),
    134: ("the program aborted (SIGABRT)", "프로그램이 중단되었습니다 (SIGABRT)"),
    137: ("it was killed (SIGKILL)", "강제 종료되었습니다 (SIGKILL)"),
    139: ("the program crashed (SIGSEGV)", "프로그램이 비정상 종료했습니다 (SIGSEGV)"),
    143: ("it was asked to end (SIGTERM)", "종료 요청을 받았습니다 (SIGTERM)"),
}
_OTHER = ("the program's own exit code", "프로그램 고유의 종료 코드입니다")


def exit_code(code: int, language: str) -> str:
    return EXIT_CODES.get(code, _OTHER)[language == "ko"]


def say(code: str, facts: dict[str, object], language: str) -> tuple[str, str]:
    """(sentence, fix or "") in a language ("en" or "ko")."""
    text = TEXTS[code]
    facts = {k: exit_code(v, language) if k == "meaning" and isinstance(v, int) else v for k, v in facts.items()}
    sentence, fix = (text.ko, text.fix_ko) if language == "ko" else (text.en, text.fix_en)
    return sentence.format(**facts), fix.format(**facts)
