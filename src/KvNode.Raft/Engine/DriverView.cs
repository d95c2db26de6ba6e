using KvNode.Raft.Core;

namespace KvNode.Raft.Engine;

/// <summary>
/// What the driver says of itself to other threads after each turn. Each value is true by itself, not with the others.
/// </summary>
internal sealed class DriverView
{
    private int _role;
    private ulong _term;
    private ulong _leader;
    private ulong _commit;
    private ulong _lastIndex;
    private ulong _lastTerm;
    private bool _servesAlone;
    private long _leaseEnd = long.MinValue;
    private long _lastContact = long.MinValue;
    private IReadOnlyList<PeerView> _peers = [];

    public RaftRole Role => (RaftRole)Volatile.Read(ref _role);

    public ulong Term => Volatile.Read(ref _term);

    /// <summary>Node id; 0 when unknown.</summary>
    public ulong Leader => Volatile.Read(ref _leader);

    public ulong Commit => Volatile.Read(ref _commit);

    public EntryId LastLog => new(Volatile.Read(ref _lastTerm), Volatile.Read(ref _lastIndex));

    /// <summary>
    /// This node is the whole cluster and has caught up. Whoever sees this may serve a linearizable read from the state as it is
    /// now or later: at this moment nothing was acknowledged that is not applied here.
    /// </summary>
    public bool ServesAlone => Volatile.Read(ref _servesAlone);

    /// <summary>Monotonic nanoseconds until which nobody else can lead; long.MinValue: unknown.</summary>
    public long LeaseEnd => Volatile.Read(ref _leaseEnd);

    /// <summary>Monotonic nanoseconds of the last message of a leader that is another node; long.MinValue: none came.</summary>
    public long LastContact
    {
        get => Volatile.Read(ref _lastContact);
        set => Volatile.Write(ref _lastContact, value);
    }

    /// <summary>What a leader knows of the other members, a tick ago at most; empty elsewhere.</summary>
    public IReadOnlyList<PeerView> Peers
    {
        get => Volatile.Read(ref _peers);
        set => Volatile.Write(ref _peers, value);
    }

    /// <summary>Raft thread. What has not changed is not written: others' processors have it in their caches.</summary>
    public void Publish(RaftCore core, bool alone)
    {
        var role = (int)(core.Role switch
        {
            CoreRole.Leader => RaftRole.Leader,
            CoreRole.Follower => RaftRole.Follower,
            _ => RaftRole.Candidate,
        });
        if (_role != role)
        {
            Volatile.Write(ref _role, role);
        }

        Set(ref _term, core.Term);
        Set(ref _leader, core.Leader);
        Set(ref _commit, core.Commit);
        Set(ref _lastTerm, core.Log.Last.Term);
        Set(ref _lastIndex, core.Log.Last.Index);
        // What an earlier leader acknowledged is before this term's first entry: applied when that one is.
        var isReadable = core.Role == CoreRole.Leader && core.Log.TryTerm(core.Applied, out var term) && term == core.Term;
        var leaseEnd = isReadable ? core.LeaseEnd : long.MinValue;
        if (_leaseEnd != leaseEnd)
        {
            Volatile.Write(ref _leaseEnd, leaseEnd);
        }

        // Without leading, too (its disk is full, say): all that was ever acknowledged is in its log.
        var hasAll = core.Role != CoreRole.Leader && core.Applied == core.Log.Last.Index;
        var servesAlone = alone && (isReadable || hasAll);
        if (_servesAlone != servesAlone)
        {
            Volatile.Write(ref _servesAlone, servesAlone);
        }
    }

    private static void Set(ref ulong field, ulong value)
    {
        if (field != value)
        {
            Volatile.Write(ref field, value);
        }
    }
}
