# Machines that cannot be reached are removed all the same.
bash <run_dir>/each.sh ssh '' --zone=us-east5-b --project=my-project --internal-ip '--command=bash .jobc/'<run_id>'/send/worker.sh stop' || :
touch "${0%/*}/removed"
