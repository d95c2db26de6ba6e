using System.Collections.Concurrent;
using KvNode.Server.Commands;

namespace KvNode.Server.Sessions;

/// <summary>All connected clients, and the once-a-second look after the ones that are idle or stuck.</summary>
internal sealed class ClientList(ServerStats stats, TimeSpan idleTimeout)
{
    private readonly ConcurrentDictionary<long, RespSession> _sessions = new();
    private long _lastId;
    private int _count;
    private volatile bool _stopping;

    public int Count => Volatile.Read(ref _count);

    public IReadOnlyCollection<ClientInfo> Infos
    {
        get
        {
            var infos = new List<ClientInfo>(Count);
            foreach (var (_, session) in _sessions)
            {
                session.Info.OutputBufferBytes = session.UnsentBytes;
                infos.Add(session.Info);
            }

            infos.Sort((left, right) => left.Id.CompareTo(right.Id));
            return infos;
        }
    }

    public long NextId() => Interlocked.Increment(ref _lastId);

    public void Add(RespSession session)
    {
        _sessions[session.Info.Id] = session;
        Interlocked.Increment(ref _count);
        if (_stopping)
        {
            // It came in between the decision to stop and the end of listening.
            session.Stop();
        }
    }

    public void Remove(RespSession session)
    {
        if (_sessions.TryRemove(session.Info.Id, out _))
        {
            Interlocked.Decrement(ref _count);
        }
    }

    /// <summary>Ends every session after the replies it is owed.</summary>
    public void StopAll()
    {
        _stopping = true;
        foreach (var (_, session) in _sessions)
        {
            session.Stop();
        }
    }

    /// <summary>Disconnects idle clients, and those that stopped taking a streamed reply, which pins a view of the store.</summary>
    public void Sweep()
    {
        var now = Environment.TickCount64;
        foreach (var (_, session) in _sessions)
        {
            if (session.Streaming && session.StalledMs > Limits.StreamStallMillisecondsMax)
            {
                Interlocked.Increment(ref stats.ClientsClosedByLimit);
                session.CutOff("stopped taking a long reply");
            }
            else if (idleTimeout > TimeSpan.Zero && session.Outstanding == 0 && !session.Streaming &&
                now - session.Info.LastActiveMs > idleTimeout.TotalMilliseconds)
            {
                Interlocked.Increment(ref stats.ClientsClosedIdle);
                session.CutOff("idle");
            }
        }
    }
}
