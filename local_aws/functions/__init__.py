"""Lambda: deployed bundles under Lambda's runtime client, and the queues that invoke them."""
