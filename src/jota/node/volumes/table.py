"""The volume types of this node, by the key of their source in spec.volumes[]."""

from __future__ import annotations

from jota.node.volumes import configmap, downwardapi, emptydir, hostpath, image, persistent, projected, secret
from jota.node.volumes.volume import Driver

DRIVERS: dict[str, Driver] = {
    "emptyDir": emptydir.DRIVER,
    "configMap": configmap.DRIVER,
    "secret": secret.DRIVER,
    "downwardAPI": downwardapi.DRIVER,
    "projected": projected.DRIVER,
    "hostPath": hostpath.DRIVER,
    "image": image.DRIVER,
    "persistentVolumeClaim": persistent.DRIVER,
    "ephemeral": persistent.EPHEMERAL,
}
