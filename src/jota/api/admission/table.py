"""The admission plugins, in the order in which they see a write (as upstream orders its own)."""

from __future__ import annotations

from jota.api.admission.admin_access import AdminAccess
from jota.api.admission.certificate_request import CertificateRequest
from jota.api.admission.claim_resize import ClaimResize
from jota.api.admission.default_ingress_class import DefaultIngressClass
from jota.api.admission.default_storage_class import DefaultStorageClass
from jota.api.admission.default_tolerations import DefaultTolerations
from jota.api.admission.device_taint import DeviceTaint
from jota.api.admission.limit_ranger import LimitRanger
from jota.api.admission.namespace_lifecycle import NamespaceLifecycle
from jota.api.admission.node_restriction import NodeRestriction
from jota.api.admission.node_taint import TaintNodesByCondition
from jota.api.admission.object_in_use import StorageObjectInUse
from jota.api.admission.plugin import Plugin
from jota.api.admission.pod_resize import PodResize
from jota.api.admission.pod_security import PodSecurity
from jota.api.admission.priority import Priority
from jota.api.admission.resource_quota import ResourceQuota
from jota.api.admission.runtime_class import RuntimeClass
from jota.api.admission.service_account import ServiceAccount
from jota.api.admission.service_ip import ServiceAddresses
from jota.api.config import ApiConfig


def plugins(config: ApiConfig) -> tuple[Plugin, ...]:
    return (
        NamespaceLifecycle(),
        LimitRanger(),
        ServiceAccount(),
        NodeRestriction(),
        TaintNodesByCondition(),
        PodSecurity(),
        Priority(),
        RuntimeClass(),
        DefaultTolerations(),
        DefaultStorageClass(),
        StorageObjectInUse(),
        ClaimResize(),
        AdminAccess(),
        CertificateRequest(),
        DefaultIngressClass(),
        DeviceTaint(),
        PodResize(),
        ResourceQuota(),
        ServiceAddresses(config),
    )
