# Sourced by interactive shells: says once how much time the server has left. It never takes longer than 0.3 s.
case $- in
  *i*)
    if [ -n "${MUDEUNG_SESSION_URL:-}" ] && [ -z "${MUDEUNG_SESSION_SAID:-}" ]; then
      export MUDEUNG_SESSION_SAID=1
      timeout -s KILL 0.3 mudeung-session --banner </dev/null 2>/dev/null || :
    fi
    ;;
esac
