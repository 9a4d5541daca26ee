#!/bin/sh
# Allow one principal what one role needs on Kafka, and nothing else. Harmless to run again.
#
#   STRAYLINE_BROKER=kafka:9093 COMMAND_CONFIG=client.properties sh deploy/kafka/acls.sh worker User:strayline-worker
#
# Roles: producer (an agents' gateway), worker, analyst (a SIEM, whoever reads alerts), admin (strayline topics, lag, rejects).
# `strayline doctor --role ROLE` says what is missing. KAFKA_ACLS names the tool where it is called otherwise, such as
# /opt/kafka/bin/kafka-acls.sh; STRAYLINE_GROUP is the workers' consumer group where it is not strayline.
set -eu

role=${1:?"which role: producer, worker, analyst or admin"}
principal=${2:?"whom, such as User:strayline-worker"}
group=${STRAYLINE_GROUP:-strayline}

allow() {
    "${KAFKA_ACLS:-kafka-acls}" --bootstrap-server "${STRAYLINE_BROKER:-localhost:9092}" \
        ${COMMAND_CONFIG:+--command-config "$COMMAND_CONFIG"} --add --allow-principal "$principal" "$@"
}

# Read and Write of a topic bring Describe with them.
case $role in
producer)
    allow --operation Write --topic agent.access.events
    ;;
worker)
    allow --operation Read --operation DescribeConfigs --topic agent.access.events --topic agent.access.verdicts
    allow --operation Write --operation DescribeConfigs --topic agent.access.alerts --topic agent.access.rejected
    allow --operation Read --operation Write --operation DescribeConfigs --topic agent.access.baselines --topic agent.access.cohorts
    allow --operation Read --group "$group"
    # One transactional id for each partition, named after it, whatever the group.
    allow --operation Write --resource-pattern-type prefixed --transactional-id strayline-agent.access.events-
    ;;
analyst)
    allow --operation Read --topic agent.access.alerts --topic agent.access.rejected
    # To say what an alert was (strayline verdict).
    allow --operation Write --topic agent.access.verdicts
    # Consumer groups of readers: strayline-readers-siem and the like.
    allow --operation Read --resource-pattern-type prefixed --group "$group-readers"
    ;;
admin)
    allow --operation Create --operation Alter --operation AlterConfigs --operation DescribeConfigs --operation Read \
        --resource-pattern-type prefixed --topic agent.access.
    # To send mended records again.
    allow --operation Write --topic agent.access.events --topic agent.access.rejected
    allow --operation Write --resource-pattern-type prefixed --transactional-id "$group-resubmit"
    allow --operation Describe --group "$group"
    allow --operation Describe --cluster
    ;;
*)
    echo "no role $role: producer, worker, analyst or admin" >&2
    exit 2
    ;;
esac
