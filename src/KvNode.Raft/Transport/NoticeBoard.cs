namespace KvNode.Raft.Transport;

/// <summary>
/// Passes notices on, at most one of each kind in a second: whoever knocks ever so often fills no log. What is refused again
/// and again for the same reason is said once, until the reason is another one or there was a connection in between. Ways that
/// come and go are said at once, of each member, until they do so too often: then once in a while, with how many were left out.
/// </summary>
internal sealed class NoticeBoard(Action<PeerNotice> notice, TimeProvider time)
{
    /// <summary>Refused callers remembered; beyond it all are forgotten, and said again.</summary>
    private const int CallersMax = 256;

    /// <summary>News of one peer's ways that are all said at once: it goes and comes back, twice.</summary>
    private const int WaysMax = 4;

    /// <summary>Strangers share one place here: ids cost them nothing.</summary>
    private const ulong Strangers = 0;

    private static readonly TimeSpan WaysTime = TimeSpan.FromSeconds(10);

    private readonly Lock _lock = new();
    private readonly long[] _lastAt = new long[Enum.GetValues<PeerNoticeKind>().Length];
    private readonly long[] _suppressed = new long[Enum.GetValues<PeerNoticeKind>().Length];

    // What was said last of calls to a peer, and what was said of callers. Each call of theirs comes from another port, and who
    // has not proven anything has no id.
    private readonly Dictionary<ulong, (string Address, string Detail)> _called = [];
    private readonly HashSet<(string Host, string Detail)> _callers = [];

    // What was said lately of ways; gone when there was no news for a while.
    private readonly Dictionary<ulong, Ways> _ways = [];

    public void Post(PeerNotice news)
    {
        if (news.Kind is PeerNoticeKind.Connected or PeerNoticeKind.Disconnected)
        {
            PostWay(news);
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

    /// <summary>Now and then: says what was left out, once its time is up.</summary>
    public void Tick()
    {
        lock (_lock)
        {
            foreach (var (peer, ways) in _ways)
            {
                if (time.GetElapsedTime(ways.Since) < WaysTime)
                {
                    continue;
                }

                if (ways.LeftOut == 0)
                {
                    _ = _ways.Remove(peer); // While enumerating: a dictionary allows it.
                    continue;
                }

                Say(ways.Last with { Suppressed = ways.LeftOut - 1 });
                (ways.Since, ways.LeftOut) = (time.GetTimestamp(), 0);
            }
        }
    }

    private void PostWay(in PeerNotice news)
    {
        lock (_lock)
        {
            var key = news.IsStranger ? Strangers : news.Peer;
            if (!_ways.TryGetValue(key, out var ways) || (ways.LeftOut == 0 && time.GetElapsedTime(ways.Since) >= WaysTime))
            {
                _ways[key] = ways = new Ways { Since = time.GetTimestamp() };
            }

            if (ways.Said < WaysMax)
            {
                ways.Said++;
                Say(news);
                return;
            }

            ways.LeftOut++;
            ways.Last = news;
        }
    }

    /// <summary>Under the lock, so that what is said last of a peer is how it is.</summary>
    private void Say(in PeerNotice news)
    {
        // Which of the refused callers this peer was is not known: all are news again.
        _ = _called.Remove(news.Peer);
        _callers.Clear();
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

    /// <summary>What one peer's ways were lately.</summary>
    private sealed class Ways
    {
        /// <summary>When the first of these was said, or a number of them that were left out.</summary>
        public long Since { get; set; }

        public int Said { get; set; }

        /// <summary>Since then, <see cref="Last"/> among them.</summary>
        public long LeftOut { get; set; }

        public PeerNotice Last { get; set; }
    }
}
