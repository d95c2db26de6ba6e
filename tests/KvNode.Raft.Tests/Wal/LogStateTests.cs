using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>What may follow what in a log.</summary>
public sealed class LogStateTests
{
    private static readonly LogState State = new(new EntryId(3, 10), new HardState(4, 7), Commit: 8);

    /// <summary>Ahead of the log, within it and of another term, and right at what is committed.</summary>
    [Theory]
    [InlineData(4, 50)]
    [InlineData(2, 9)]
    [InlineData(3, 8)]
    public void ASnapshotMarkerRestartsTheLogAtItsPositionAndLeavesTermAndVote(ulong term, ulong index)
    {
        var position = new EntryId(term, index);
        var restarted = State.After(WalRecord.SnapshotMarker(position), out var refusal);
        Assert.Equal(new LogState(position, new HardState(4, 7), Commit: index), restarted);
        Assert.Equal("", refusal);

        // From there the log goes on, and not from where it ended.
        var next = new EntryId(term, index + 1);
        Assert.Equal(next, restarted?.After(WalRecord.Entry(next, EntryKind.Empty, default), out _)?.Last);
        AssertRefused(restarted, WalRecord.Entry(new EntryId(4, index + 2), EntryKind.Empty, default), "cannot follow");
        AssertRefused(restarted, WalRecord.Truncate(index) with { Id = new EntryId(term, index) }, "are committed");
        AssertRefused(restarted, WalRecord.Commit(index + 1), "the log ends at");
    }

    [Fact]
    public void ASnapshotMarkerThatGoesBackBehindWhatIsCommittedIsRefused() =>
        AssertRefused(State, WalRecord.SnapshotMarker(new EntryId(3, 7)), "a snapshot of 7@3 replaces the log, but entries up to 8 are committed");

    private static void AssertRefused(LogState? state, WalRecord record, string reason)
    {
        Assert.NotNull(state);
        Assert.Null(state.Value.After(record, out var refusal));
        Assert.Contains(reason, refusal, StringComparison.Ordinal);
    }
}
