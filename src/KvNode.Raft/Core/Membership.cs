namespace KvNode.Raft.Core;

/// <summary>
/// A cluster's configuration: who votes, who only learns, where they are. Immutable; the same changes give the same value
/// on every node.
/// </summary>
internal sealed class Membership : IEquatable<Membership>
{
    public static Membership Empty { get; } = new();

    /// <summary>Voters of the (incoming) configuration, ascending.</summary>
    public IReadOnlyList<ulong> Voters { get; private init; } = [];

    /// <summary>Voters of the outgoing configuration; empty when not joint.</summary>
    public IReadOnlyList<ulong> Outgoing { get; private init; } = [];

    public IReadOnlyList<ulong> Learners { get; private init; } = [];

    /// <summary>Voters of the outgoing half that become learners when the joint configuration is left.</summary>
    public IReadOnlyList<ulong> LearnersNext { get; private init; } = [];

    /// <summary>The leader leaves the joint configuration by itself.</summary>
    public bool AutoLeave { get; private init; }

    /// <summary>Address of each member, by node id.</summary>
    public IReadOnlyDictionary<ulong, string> Addresses { get; private init; } = new Dictionary<ulong, string>();

    public bool IsJoint => Outgoing.Count > 0;

    /// <summary>A configuration of these voters, as a new cluster starts with.</summary>
    public static Membership OfVoters(params ReadOnlySpan<(ulong Id, string Address)> voters) => throw new NotSupportedException();

    /// <summary>The configuration after a change; null and a reason for people when the change is not possible
    /// (a second joint, no voter left, two voters in a direct change, leaving when not joint ...).</summary>
    public Membership? TryApply(ConfigurationChange change, out string? refusal) => throw new NotSupportedException();

    public bool Contains(ulong node) => throw new NotSupportedException();

    /// <summary>In either half.</summary>
    public bool IsVoter(ulong node) => throw new NotSupportedException();

    /// <summary>Bytes that name the same configuration everywhere: versioned, little-endian.</summary>
    public byte[] Encode() => throw new NotSupportedException();

    /// <exception cref="FormatException">Not what <see cref="Encode"/> makes.</exception>
    public static Membership Decode(ReadOnlySpan<byte> bytes) => throw new NotSupportedException();

    public bool Equals(Membership? other) => throw new NotSupportedException();

    public override bool Equals(object? obj) => Equals(obj as Membership);

    public override int GetHashCode() => throw new NotSupportedException();
}
