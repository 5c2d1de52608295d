"""The one door to HTTP: the RabbitMQ management API, with typed answers."""

from busctl_lib.management.alternates import alternate_of as alternate_of
from busctl_lib.management.alternates import definitions_of as definitions_of
from busctl_lib.management.client import ManagementClient as ManagementClient
from busctl_lib.management.infos import BindingInfo as BindingInfo
from busctl_lib.management.infos import ChannelInfo as ChannelInfo
from busctl_lib.management.infos import ConnectionInfo as ConnectionInfo
from busctl_lib.management.infos import ConsumerInfo as ConsumerInfo
from busctl_lib.management.infos import Details as Details
from busctl_lib.management.infos import ExchangeInfo as ExchangeInfo
from busctl_lib.management.infos import Info as Info
from busctl_lib.management.infos import MessageStats as MessageStats
from busctl_lib.management.infos import PolicyInfo as PolicyInfo
from busctl_lib.management.infos import QueueInfo as QueueInfo
from busctl_lib.management.infos import Sample as Sample
from busctl_lib.management.infos import rate_of as rate_of
from busctl_lib.management.infos_access import AccountInfo as AccountInfo
from busctl_lib.management.infos_access import PermissionInfo as PermissionInfo
from busctl_lib.management.infos_access import UserInfo as UserInfo
from busctl_lib.management.infos_cluster import NodeInfo as NodeInfo
from busctl_lib.management.infos_cluster import OverviewInfo as OverviewInfo
from busctl_lib.management.infos_cluster import VhostInfo as VhostInfo
from busctl_lib.management.infos_links import FederationLinkInfo as FederationLinkInfo
from busctl_lib.management.infos_links import ShovelInfo as ShovelInfo
from busctl_lib.management.queue_reading import History as History
