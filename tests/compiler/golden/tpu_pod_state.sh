if [ -e "${0%/*}/removed" ]; then
  echo "jobc-slice DELETING"
  exit
fi
bash <run_dir>/each.sh ssh '' --zone=us-east5-b --project=my-project --internal-ip '--command=bash .jobc/'<run_id>'/send/worker.sh state'
