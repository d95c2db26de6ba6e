namespace KvNode.Raft.Core;

/// <summary>
/// Bytes, little-endian: version u8 = 1; flags u8 (1: auto-leave); then voters, outgoing voters, learners and next learners,
/// each as count u32 and that many ids u64, ascending; then, for each member by ascending id, its address as length u16 and
/// UTF-8.
/// </summary>
internal sealed partial class Membership
{
    private const byte FormatVersion = 1;
    private const byte AutoLeaveFlag = 1;

    /// <summary>Bytes that name the same configuration everywhere: versioned, little-endian.</summary>
    public byte[] Encode()
    {
        var writer = new CoreWriter();
        writer.Byte(FormatVersion);
        writer.Byte(AutoLeave ? AutoLeaveFlag : (byte)0);
        writer.Ids(_voters);
        writer.Ids(_outgoing);
        writer.Ids(_learners);
        writer.Ids(_learnersNext);
        foreach (var id in Sorted([.. Addresses.Keys]))
        {
            writer.Text(Addresses[id]);
        }

        return writer.ToArray();
    }

    /// <exception cref="FormatException">Not what <see cref="Encode"/> makes.</exception>
    public static Membership Decode(ReadOnlySpan<byte> bytes)
    {
        var reader = new CoreReader(bytes);
        reader.Expect(reader.Byte() == FormatVersion, "a membership of another version");
        var flags = reader.Byte();
        reader.Expect(flags <= AutoLeaveFlag, "unknown flags of a membership");
        var voters = reader.Ids();
        var outgoing = reader.Ids();
        var learners = reader.Ids();
        var learnersNext = reader.Ids();
        var members = new SortedSet<ulong>(voters);
        members.UnionWith(outgoing);
        foreach (var learner in learners)
        {
            reader.Expect(members.Add(learner), "a learner that votes");
        }

        foreach (var next in learnersNext)
        {
            reader.Expect(Has(outgoing, next) && !Has(voters, next), "a next learner that does not leave its vote");
        }

        reader.Expect(outgoing.Length == 0 || voters.Length > 0, "a joint configuration without voters");
        reader.Expect(flags == 0 || outgoing.Length > 0, "auto-leave of what is not joint");
        var addresses = new Dictionary<ulong, string>();
        foreach (var id in members)
        {
            addresses.Add(id, reader.Text());
        }

        reader.End();
        return new Membership
        {
            Voters = voters,
            Outgoing = outgoing,
            Learners = learners,
            LearnersNext = learnersNext,
            AutoLeave = flags == AutoLeaveFlag,
            Addresses = addresses,
        };
    }
}
