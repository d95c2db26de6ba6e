namespace KvNode.Raft.Transport;

/// <summary>
/// Passes notices on, at most one of each kind in a second: whoever knocks ever so often fills no log. What is refused again
/// and again for the same reason is said once, until the reason is another one or there was a connection in between.
/// </summary>
internal sealed class NoticeBoard(Action<PeerNotice> notice, TimeProvider time)
{
    /// <summary>Refused callers remembered; beyond it all are forgotten, and said again.</summary>
    private const int CallersMax = 256;

    private readonly Lock _lock = new();
    private readonly long[] _lastAt = new long[Enum.GetValues<PeerNoticeKind>().Length];
    private readonly long[] _suppressed = new long[Enum.GetValues<PeerNoticeKind>().Length];

    // What was said last of calls to a peer, and what was said of callers. Each call of theirs comes from another port, and who
    // has not proven anything has no id.
    private readonly Dictionary<ulong, (string Address, string Detail)> _called = [];
    private readonly HashSet<(string Host, string Detail)> _callers = [];

    public void Post(PeerNotice news)
    {
        // Ways that come and go are few, and none of them is left out: people read them together.
        if (news.Kind is PeerNoticeKind.Connected or PeerNoticeKind.Disconnected)
        {
            Forget(news.Peer);
            notice(news);
            return;
        }

        var kind = (int)news.Kind;
        lock (_lock)
        {
            var now = time.GetTimestamp();
            var isEarly = _lastAt[kind] != 0 && time.GetElapsedTime(_lastAt[kind], now) < TimeSpan.FromSeconds(1);
            if (isEarly || !IsNew(news))
            {
                _suppressed[kind]++;
                return;
            }

            _lastAt[kind] = now == 0 ? 1 : now;
            news = news with { Suppressed = _suppressed[kind] };
            _suppressed[kind] = 0;
        }

        notice(news);
    }

    /// <summary>Under the lock. It counts as said from here on.</summary>
    private bool IsNew(in PeerNotice news)
    {
        switch (news.Kind)
        {
            case PeerNoticeKind.CallRefused or PeerNoticeKind.Unreachable:
                var said = (news.Address, news.Detail);
                if (_called.TryGetValue(news.Peer, out var before) && before == said)
                {
                    return false;
                }

                _called[news.Peer] = said;
                return true;
            case PeerNoticeKind.Refused:
                if (_callers.Count >= CallersMax)
                {
                    _callers.Clear();
                }

                var port = news.Address.LastIndexOf(':');
                return _callers.Add((port < 0 ? news.Address : news.Address[..port], news.Detail));
            default:
                return true;
        }
    }

    /// <summary>Which of the refused callers this peer was is not known: all are news again.</summary>
    private void Forget(ulong peer)
    {
        lock (_lock)
        {
            _ = _called.Remove(peer);
            _callers.Clear();
        }
    }
}
