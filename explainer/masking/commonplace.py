"""Words that are no secret: what every cluster calls the same, what everyone writes, and which hosts all know."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Named by Kubernetes itself, or by all who install it.
EVERYWHERE = _words(
    """
    default kube-system kube-public kube-node-lease kubernetes kube-root-ca.crt coredns kube-dns kube-proxy etcd
    kube-apiserver kube-scheduler kube-controller-manager kubelet kubectl containerd metrics-server default-scheduler
    cluster-autoscaler localhost cluster.local cluster svc docker.io registry-1.docker.io index.docker.io auth.docker.io
    production.cloudflare.docker.com quay.io ghcr.io gcr.io k8s.gcr.io registry.k8s.io mcr.microsoft.com public.ecr.aws
    nvcr.io github.com gitlab.com golang.org metadata.google.internal hooks.slack.com api.openai.com api.anthropic.com
    """
)

# API groups, label keys and resource names that projects of all the world share: these, and all below them.
SHARED = _words(
    """
    k8s.io kubernetes.io argoproj.io cert-manager.io coreos.com istio.io traefik.io helm.sh crossplane.io knative.dev
    karpenter.sh keda.sh cilium.io projectcalico.org fluxcd.io linkerd.io openshift.io velero.io prometheus.io
    grafana.com cncf.io opentelemetry.io nvidia.com amd.com intel.com xilinx.com kubevirt.io strimzi.io
    cloud.google.com microsoft.com kubewhy.dev
    """
)

# What values say that say nothing.
UNSAID = _words("true false null none nil undefined yes no unknown latest stable")

# English and Kubernetes words that a message may hold for their own sake. A name like that is masked only where the
# text says that it is a name.
WORDS = _words(
    """
    a about above accept access account action active add address after again agent alert all allow allocate already
    alpha also an analyzer and annotation any api app apps application apply are args as at attach attempt audit auth
    available aws azure back backend backoff backup bad balancer base batch be because been before below beta between
    bin bind block body boot both bound broken bucket build bug but by bytes ca cache call can cannot canary cause cert
    certificate change channel check claim class clean cleanup client clock cloud cluster cmd code command common
    complete component condition config configmap configuration connect connected connection consumer container
    containers content context control controller copy core could count cpu crash create created cron cronjob current
    custom daemon daemonset data database date db debug default degraded delay delete deleted demo deny denied deploy
    deployment desired detail dev device did disabled disk dns do docker does domain done down drain driver due during
    each edge empty enabled end endpoint engine entry env environment error errors etc event events every evicted exec
    exceeded executor exists exit expected expired external fail failed failing failure false fast fatal feature fetch
    file files filter finished first flag flow for forbidden format found free frontend from full function gateway
    general get global go goes good got gpu grace group grpc had handler has hash have head headless health healthy
    heap help here high history home hook host hostname hosts how http https id if image images impossible in incorrect
    index info ingress init initial input insecure install instance insufficient integration internal invalid ip is
    issue issuer it item its java job jobs json keep kernel key kind kubernetes label lack large last late latest lease
    left level life limit line link list listen live liveness load local lock log logger logging logs long loop lost low
    main manager map master match max memory message metadata method metric metrics migrate migration min minor mirror
    missing mode model module monitor monitoring more most mount mounted my name named namespace namespaces need network
    new next no node nodes none normal not null object of off ok old on once one only open operation operator option or
    order other out output over owner package page parent part password path pause pending per permission persistent
    phase ping pipeline plugin pod pods policy pool port post preemption pressure primary priority private probe process
    production profile project prometheus property protocol proxy public publish pull push query queue quota rate read
    readiness ready reason receive recover red refused registry reject release remote remove renew replica replicas
    replicaset report request requests required reset resolve resource resources response restart restarting result
    retry return role rolling rollout root route router rule run running runtime same sandbox save scale schedule
    scheduled scheduler script search secondary secret security selector self send server service services session set
    setup shared short should show shutdown sidecar signal since single size skip slow small snapshot so socket some
    source space spec stable stack stage staging start started starting startup state stateful statefulset static
    status step still stop stopped storage store stream string stuck success successful such sum support swap sync
    system table tag taint target task team template temp terminated terminating test testing tests than that the their
    then there these they this thread three through time timeout tls tmp to token too tool total trace traffic trial
    trigger true try tunnel two type unable unauthorized unavailable unavailable unbound under unhealthy unknown
    unreachable unready unsupported until up update upgrade upload uri url usage use used user users using valid value
    values var version view volume volumes wait waiting wake warning was watch way we webhook well were what when where
    which while who why will with within without word work worker workers workload would write wrong yaml yes you zero
    zone
    """
)

# Endings of file names. Some are top-level domains as well.
ENDINGS = _words(
    """
    bak bash bin c cc cfg class conf config cpp crt cs csr css csv db dll env exe gif go gz h hpp html ini jar java jpg
    js json jsonl key kt lock log md mjs o out pem php pid pl png properties proto ps py pyc rb rs sc scala sh so sock
    sql svg swift tar tgz tmp toml ts tsx txt war xml yaml yml zip zst
    service socket target mount slice scope timer
    """
)

# What a host's name ends in: the domains of countries have two letters, these have more.
DOMAINS = _words(
    """
    academy agency ai app arpa biz blog business care center cloud co com community company consulting corp dev digital
    edu email energy example engineering enterprises eu exchange finance fund games global gov health home
    hosting info int international internal intra intranet invalid investments io lan local localdomain localhost
    mil mobi net network online org partners plus private pro prod reviews run services shop site software
    solutions space store studio systems team tech technology test today tools travel university ventures wiki work
    works world xyz zone bid buzz chat click date download icu link live loan monster mov page party press quest rest
    review science social stream support top trade uno vip webcam win
    """
)

# Countries' domains that are fields and words of code as well: `metadata.id`, `this.is`.
CODE = _words(
    """
    id is in to me no so do as at be by my us it am cc re st info run test store services network work live date
    download link page press rest review social stream support top trade win zone tools systems center health home
    """
)
