namespace KvNode.Raft.Transport;

/// <summary>Passes notices on, at most one of each kind in a second: whoever knocks ever so often fills no log.</summary>
internal sealed class NoticeBoard(Action<PeerNotice> notice, TimeProvider time)
{
    private readonly Lock _lock = new();
    private readonly long[] _lastAt = new long[Enum.GetValues<PeerNoticeKind>().Length];
    private readonly long[] _suppressed = new long[Enum.GetValues<PeerNoticeKind>().Length];

    public void Post(PeerNotice news)
    {
        // Ways that come and go are few, and none of them is left out: people read them together.
        if (news.Kind is PeerNoticeKind.Connected or PeerNoticeKind.Disconnected)
        {
            notice(news);
            return;
        }

        var kind = (int)news.Kind;
        lock (_lock)
        {
            var now = time.GetTimestamp();
            if (_lastAt[kind] != 0 && time.GetElapsedTime(_lastAt[kind], now) < TimeSpan.FromSeconds(1))
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
}
