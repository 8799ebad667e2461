"""Every fault there is. A module of faults is a line here."""

from tests.chaos import faults_bus, faults_carrier, faults_contracts, faults_edge, faults_processes
from tests.chaos.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *faults_processes.FAULTS,
    *faults_carrier.FAULTS,
    *faults_edge.FAULTS,
    *faults_contracts.FAULTS,
    *faults_bus.FAULTS,
)
BY_NAME = {fault.name: fault for fault in FAULTS}
assert len(BY_NAME) == len(FAULTS)
