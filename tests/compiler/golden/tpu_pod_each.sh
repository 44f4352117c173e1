# Reaches each machine of the group: ssh USER@ FLAGS, or scp USER@ FLAGS FILE FOLDER.
names=$(gcloud compute instance-groups managed list-instances <run_word> --zone=us-east5-b --project=my-project '--format=value(instance.basename())') || exit
pids=() failed=0
for instance in $names; do
  case $1 in
    ssh) gcloud compute ssh "$2$instance" "${@:3}" & ;;
    scp) gcloud compute scp --recurse "${@:3:$#-4}" -- "${@: -2:1}" "$2$instance:${*: -1}" & ;;
  esac
  pids+=("$!")
done
if [ "${#pids[@]}" -ne 2 ]; then
  echo "jobc: the group has ${#pids[@]} machines, and the job 2 nodes" >&2
  failed=1
fi
for pid in "${pids[@]}"; do wait "$pid" || failed=$?; done
exit "$failed"
