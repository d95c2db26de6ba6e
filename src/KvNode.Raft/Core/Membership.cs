namespace KvNode.Raft.Core;

/// <summary>
/// A cluster's configuration: who votes, who only learns, where they are. Immutable; the same changes give the same value
/// on every node.
/// </summary>
internal sealed partial class Membership : IEquatable<Membership>
{
    private readonly ulong[] _voters = [];
    private readonly ulong[] _outgoing = [];
    private readonly ulong[] _learners = [];
    private readonly ulong[] _learnersNext = [];

    public static Membership Empty { get; } = new();

    /// <summary>Voters of the (incoming) configuration, ascending.</summary>
    public IReadOnlyList<ulong> Voters
    {
        get => _voters;
        private init => _voters = Sorted(value);
    }

    /// <summary>Voters of the outgoing configuration; empty when not joint.</summary>
    public IReadOnlyList<ulong> Outgoing
    {
        get => _outgoing;
        private init => _outgoing = Sorted(value);
    }

    public IReadOnlyList<ulong> Learners
    {
        get => _learners;
        private init => _learners = Sorted(value);
    }

    /// <summary>Voters of the outgoing half that become learners when the joint configuration is left.</summary>
    public IReadOnlyList<ulong> LearnersNext
    {
        get => _learnersNext;
        private init => _learnersNext = Sorted(value);
    }

    /// <summary>The leader leaves the joint configuration by itself.</summary>
    public bool AutoLeave { get; private init; }

    /// <summary>Address of each member, by node id.</summary>
    public IReadOnlyDictionary<ulong, string> Addresses { get; private init; } = new Dictionary<ulong, string>();

    public bool IsJoint => Outgoing.Count > 0;

    /// <summary>A configuration of these voters, as a new cluster starts with.</summary>
    /// <exception cref="ArgumentException">A node id is 0 or there twice.</exception>
    public static Membership OfVoters(params ReadOnlySpan<(ulong Id, string Address)> voters)
    {
        var addresses = new Dictionary<ulong, string>();
        foreach (var (id, address) in voters)
        {
            if (id == 0 || !addresses.TryAdd(id, address))
            {
                throw new ArgumentException($"node {id} cannot be a voter, or is one twice", nameof(voters));
            }
        }

        return new Membership { Voters = [.. addresses.Keys], Addresses = addresses };
    }

    /// <summary>The configuration after a change; null and a reason for people when the change is not possible
    /// (a second joint, no voter left, leaving when not joint, a stranger to promote ...). Adding who is there and removing
    /// who is not changes nothing; adding a member with another address changes its address.</summary>
    public Membership? TryApply(ConfigurationChange change, out string? refusal)
    {
        if (change.Changes.Count == 0)
        {
            refusal = IsJoint ? null : "the configuration is not joint: there is nothing to leave";
            return IsJoint ? LeaveJoint() : null;
        }

        if (IsJoint)
        {
            refusal = "a joint configuration has to be left before the next change";
            return null;
        }

        var draft = new Draft(this);
        foreach (var part in change.Changes)
        {
            refusal = draft.Apply(part);
            if (refusal is not null)
            {
                return null;
            }
        }

        refusal = draft.Voters.Count == 0 ? "no voter would be left" : null;
        if (refusal is null && _voters.Length == 0 && change.Transition != ChangeTransition.Auto)
        {
            refusal = "a configuration without voters cannot become joint";
        }

        return refusal is null ? Finish(draft, change.Transition) : null;
    }

    public bool Contains(ulong node) => Addresses.ContainsKey(node);

    internal ReadOnlySpan<ulong> VoterSpan => _voters;

    internal ReadOnlySpan<ulong> OutgoingSpan => _outgoing;

    /// <summary>In either half.</summary>
    public bool IsVoter(ulong node) => Has(_voters, node) || Has(_outgoing, node);

    /// <summary>Learns and has no vote in either half.</summary>
    internal bool IsLearner(ulong node) => Has(_learners, node);

    public bool Equals(Membership? other) =>
        other is not null
        && AutoLeave == other.AutoLeave
        && _voters.AsSpan().SequenceEqual(other._voters)
        && _outgoing.AsSpan().SequenceEqual(other._outgoing)
        && _learners.AsSpan().SequenceEqual(other._learners)
        && _learnersNext.AsSpan().SequenceEqual(other._learnersNext)
        && SameAddresses(other);

    public override bool Equals(object? obj) => Equals(obj as Membership);

    public override int GetHashCode()
    {
        var hash = default(HashCode);
        foreach (var id in _voters)
        {
            hash.Add(id);
        }

        hash.Add(_outgoing.Length);
        foreach (var id in _learners)
        {
            hash.Add(id);
        }

        return hash.ToHashCode();
    }

    public override string ToString() =>
        $"voters [{string.Join(' ', _voters)}] outgoing [{string.Join(' ', _outgoing)}] learners "
        + $"[{string.Join(' ', _learners)}] next [{string.Join(' ', _learnersNext)}]{(AutoLeave ? " auto-leave" : "")}";

    private static ulong[] Sorted(IReadOnlyList<ulong> ids)
    {
        ulong[] sorted = [.. ids];
        Array.Sort(sorted);
        return sorted;
    }

    private static bool Has(ulong[] ids, ulong node) => Array.IndexOf(ids, node) >= 0;

    private Membership LeaveJoint() => new()
    {
        Voters = _voters,
        Learners = [.. _learners, .. _learnersNext],
        Addresses = Only(Addresses, [.. _voters, .. _learners, .. _learnersNext]),
    };

    private Membership Finish(Draft draft, ChangeTransition transition)
    {
        ulong[] voters = [.. draft.Voters];
        if (transition == ChangeTransition.Auto && (_voters.Length == 0 || VotersChanged(draft.Voters) <= 1))
        {
            ulong[] learners = [.. draft.Learners];
            return new Membership
            {
                Voters = voters,
                Learners = learners,
                Addresses = Only(draft.Addresses, [.. voters, .. learners]),
            };
        }

        // Who votes in the outgoing half cannot learn before that half is gone.
        List<ulong> now = [];
        List<ulong> next = [];
        foreach (var learner in draft.Learners)
        {
            (Has(_voters, learner) ? next : now).Add(learner);
        }

        return new Membership
        {
            Voters = voters,
            Outgoing = _voters,
            Learners = now,
            LearnersNext = next,
            AutoLeave = transition != ChangeTransition.JointExplicit,
            Addresses = Only(draft.Addresses, [.. voters, .. _voters, .. now]),
        };
    }

    /// <summary>How many voters come or go.</summary>
    private int VotersChanged(HashSet<ulong> after)
    {
        var kept = 0;
        foreach (var id in _voters)
        {
            kept += after.Contains(id) ? 1 : 0;
        }

        return _voters.Length + after.Count - kept - kept;
    }

    private static Dictionary<ulong, string> Only(IReadOnlyDictionary<ulong, string> addresses, ulong[] members)
    {
        var kept = new Dictionary<ulong, string>();
        foreach (var id in members)
        {
            kept[id] = addresses[id];
        }

        return kept;
    }

    private bool SameAddresses(Membership other)
    {
        if (Addresses.Count != other.Addresses.Count)
        {
            return false;
        }

        foreach (var (id, address) in Addresses)
        {
            if (!other.Addresses.TryGetValue(id, out var theirs) || theirs != address)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>What a change makes of the roles, before it is decided how to get there.</summary>
    private sealed class Draft(Membership before)
    {
        public HashSet<ulong> Voters { get; } = [.. before._voters];

        public HashSet<ulong> Learners { get; } = [.. before._learners];

        /// <summary>Of all who were or are members.</summary>
        public Dictionary<ulong, string> Addresses { get; } = new(before.Addresses);

        /// <summary>Null, or why the change is not possible.</summary>
        public string? Apply(NodeChange change)
        {
            var id = change.NodeId;
            var isMember = Voters.Contains(id) || Learners.Contains(id);
            switch (change.Kind)
            {
                case MembershipChangeKind.AddLearner:
                    Join(change, isMember, isMember ? null : Learners);
                    break;
                case MembershipChangeKind.AddVoter:
                    Join(change, isMember, Voters);
                    _ = Learners.Remove(id);
                    break;
                case MembershipChangeKind.Promote when isMember:
                    _ = Voters.Add(id);
                    _ = Learners.Remove(id);
                    break;
                case MembershipChangeKind.Demote when isMember:
                    _ = Voters.Remove(id);
                    _ = Learners.Add(id);
                    break;
                case MembershipChangeKind.Remove:
                    _ = Voters.Remove(id);
                    _ = Learners.Remove(id);
                    break;
                case MembershipChangeKind.Promote:
                case MembershipChangeKind.Demote:
                    return $"node {id} is not a member";
                default:
                    return $"there is no change {(int)change.Kind}";
            }

            return id == 0 ? "0 is not a node id" : null;
        }

        private void Join(NodeChange change, bool isMember, HashSet<ulong>? role)
        {
            _ = role?.Add(change.NodeId);
            if (!isMember || change.Address.Length > 0)
            {
                Addresses[change.NodeId] = change.Address;
            }
        }
    }
}
