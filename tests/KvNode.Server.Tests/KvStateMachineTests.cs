using System.Text;
using KvNode.Raft;
using KvNode.Server.Commands;
using KvNode.Server.Replication;
using KvNode.Storage;
using KvNode.Testing;
using Xunit;

namespace KvNode.Server.Tests;

/// <summary>The state machine as an engine of a cluster uses it: entries in parts, engine state, snapshots from node to
/// node.</summary>
public sealed class KvStateMachineTests : IDisposable
{
    private readonly TempDirectory _directory = new("machine");

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void AnEntryOfSeveralPartsIsAppliedWholeAndTheClockIsTheGreatestSeen()
    {
        using var node = new MachineNode(_directory.Sub("a"));
        node.Machine.Apply(
            [
                Part(1, 1, 5000, ["SET", "a", "1"], ["SET", "b", "1"]),
                Part(1, 1, 4000, ["SET", "a", "2"]),
                new CommittedEntry(new EntryId(1, 2), EntryKind.Empty, default, null),
                new CommittedEntry(new EntryId(1, 3), EntryKind.Configuration, new byte[] { 1, 2, 3 }, null),
            ],
            "as of 3"u8);
        Assert.Equal((3ul, 5000L), (node.Store.AppliedIndex, node.Store.ClockMs));
        Assert.Equal("a=2 b=1", node.Text());

        node.Machine.Apply([Part(2, 4, 4500, ["DEL", "b"])], "as of 4"u8);
        Assert.Equal(5000, node.Store.ClockMs);
        node.Machine.Apply([Part(2, 5, 6000, ["SET", "c", "3"])], "as of 5"u8);
        Assert.Equal(6000, node.Store.ClockMs);
        Assert.Equal("a=2 c=3", node.Text());
    }

    [Fact]
    public void HowEntriesAreGroupedIntoCallsDoesNotMatter()
    {
        CommittedEntry[] entries =
        [
            .. Enumerable.Range(1, 40).Select(i => Part(1, (ulong)i, 1000 + (i * 7919 % 100), ["SET", $"k{i % 9}", $"{i}"])),
        ];
        var digests = new HashSet<StoreDigest>();
        foreach (var size in (int[])[1, 3, 40])
        {
            using var node = new MachineNode(_directory.Sub($"by{size}"));
            foreach (var group in entries.Chunk(size))
            {
                node.Machine.Apply(group, Encoding.ASCII.GetBytes($"as of {group[^1].Id}"));
            }

            _ = digests.Add(node.Store.ComputeDigest(TestContext.Current.CancellationToken));
        }

        _ = Assert.Single(digests);
    }

    [Fact]
    public void ANewMachineHasNothingOfAnEngineAndWhatIsDurableComesBackTogether()
    {
        using (var node = new MachineNode(_directory.Sub("a")))
        {
            Assert.Equal(default, node.Machine.Durable);
            Assert.Equal(default, node.Machine.InstalledAt);
            Assert.Equal(0, node.Machine.EngineState.Length);
            node.Machine.Apply([Part(3, 1, 1, ["SET", "a", "1"])], "as of 1"u8);
            Assert.Equal(0, node.Machine.EngineState.Length);
            node.Machine.Checkpoint();
            Assert.Equal(new EntryId(3, 1), node.Machine.Durable);
            Assert.Equal("as of 1"u8.ToArray(), node.Machine.EngineState.ToArray());
        }

        using var again = new MachineNode(_directory.Sub("a"));
        Assert.Equal(new EntryId(3, 1), again.Machine.Durable);
        Assert.Equal("as of 1"u8.ToArray(), again.Machine.EngineState.ToArray());
    }

    [Fact]
    public void ASnapshotMovesTheWholeStateToAnotherNode()
    {
        using var source = new MachineNode(_directory.Sub("source"));
        source.Machine.Members = ["n1:1", "n2:2"];
        for (var i = 1; i <= 500; i++)
        {
            source.Machine.Apply([Part(2, (ulong)i, 10 * i, ["SET", $"k{i}", new string('v', i)])], Encoding.ASCII.GetBytes($"as of {i}"));
        }

        using var snapshot = source.Machine.OpenSnapshot();
        source.Machine.Apply([Part(2, 501, 5010, ["SET", "later", "1"])], "as of 501"u8);
        Assert.Equal((new EntryId(2, 500), 500L), (snapshot.Meta.Position, snapshot.Meta.Count));
        Assert.Equal(["n1:1", "n2:2"], snapshot.Meta.Members);
        Assert.Equal("as of 500"u8.ToArray(), snapshot.Meta.EngineState.ToArray());

        using var target = new MachineNode(_directory.Sub("target"));
        target.Machine.Apply([Part(1, 1, 1, ["SET", "stale", "1"])], "stale"u8);
        using (var restore = target.Machine.CreateRestore(snapshot.Meta))
        {
            var chunk = new byte[700];
            for (int count; (count = snapshot.Read(chunk)) > 0;)
            {
                restore.Write(chunk.AsSpan(0, count));
            }

            restore.Complete();
            Assert.Equal("stale=1", target.Text());
            restore.Commit();
        }

        Assert.Equal(new EntryId(2, 500), target.Machine.Durable);
        Assert.Equal(new EntryId(2, 500), target.Machine.InstalledAt);
        Assert.Equal("as of 500"u8.ToArray(), target.Machine.EngineState.ToArray());
        target.Machine.Apply([Part(2, 501, 5010, ["SET", "later", "1"])], "as of 501"u8);
        Assert.Equal(
            source.Store.ComputeDigest(TestContext.Current.CancellationToken),
            target.Store.ComputeDigest(TestContext.Current.CancellationToken));
        target.Machine.Checkpoint();
        Assert.Equal(new EntryId(2, 501), target.Machine.Durable);
        Assert.Equal(new EntryId(2, 500), target.Machine.InstalledAt);
    }

    [Fact]
    public void ABatchWithACommandThatWalksManyKeysSaysSoOnEveryNode()
    {
        using var node = new MachineNode(_directory.Sub("long"));
        var batch = new CommandBatch(new Proposer(
            null!, TimeProvider.System, new FailureReplies(CommandTable.Default, moved: false)));
        var sink = new NoSink();
        batch.AddWrite(sink, Wire.Encode(Wire.Bytes("PDEL"), Wire.Bytes("*")).Raw, isLong: true);
        batch.AddWrite(sink, Wire.Encode(Wire.Bytes("SET"), Wire.Bytes("a"), Wire.Bytes("1")).Raw, isLong: false);
        var payload = batch.Seal();
        Assert.True(node.Machine.IsLong(payload.Span));
        node.Machine.Apply([new CommittedEntry(new EntryId(1, 1), EntryKind.Normal, payload, null)], []);
        Assert.Equal("a=1", node.Text());

        batch.Reset();
        batch.AddWrite(sink, Wire.Encode(Wire.Bytes("DEL"), Wire.Bytes("a")).Raw, isLong: false);
        Assert.False(node.Machine.IsLong(batch.Seal().Span));
        Assert.False(node.Machine.IsLong([]));
    }

    /// <summary>Once in the log it would end every node that applies it, at every start.</summary>
    [Fact]
    public void WhatAnotherNodeGivesIsCheckedBeforeItBecomesAnEntry()
    {
        using var node = new MachineNode(_directory.Sub("check"));
        var good = Part(1, 1, 5, ["SET", "a", "1"], ["DEL", "b"]).Payload;
        Assert.Null(node.Machine.Check(good.Span));
        foreach (var bad in (byte[][])
            [
                "garbage"u8.ToArray(),
                [],
                [.. good.Span[..^1]],
                [.. good.Span, (byte)'*'],
                [.. Part(1, 1, 5, ["GET", "a"]).Payload.Span],
                [.. Part(1, 1, 5, ["SET", "a"]).Payload.Span],
                [.. Part(1, 1, 5, ["NOSUCH", "a"]).Payload.Span],
                [1, 0, 0, 0, 255, 255, 255, 255, .. good.Span[8..]],
                [9, .. good.Span[1..]],
            ])
        {
            Assert.NotNull(node.Machine.Check(bad));
        }
    }

    private static CommittedEntry Part(ulong term, ulong index, long leaderMs, params string[][] commands)
    {
        var header = new byte[EntryHeader.Bytes];
        new EntryHeader(commands.Length, leaderMs, IsLong: false).Write(header);
        var payload = commands.Aggregate(
            header, (bytes, command) => [.. bytes, .. Wire.Encode([.. command.Select(Wire.Bytes)]).Raw]);
        return new CommittedEntry(new EntryId(term, index), EntryKind.Normal, payload, null);
    }

    private sealed class NoSink : IReplySink
    {
        public int Protocol => 2;

        public void CutOff(string reason)
        {
        }

        public bool Hold(int bytes) => true;

        public void Release(ReadOnlySpan<byte> replies)
        {
        }

        public void Deliver(ReadOnlySpan<byte> replies, int operations)
        {
        }
    }

    private sealed class MachineNode : IDisposable
    {
        public MachineNode(string directory)
        {
            Store = Store.Open(directory, new StoreOptions
            {
                WriteBufferBytes = 1 << 20,
                Fatal = e => throw new InvalidOperationException("the store gave up", e),
            });
            Machine = new KvStateMachine(Store, new Executor(CommandTable.Default, new ServerStats()), ["n:1"]);
        }

        public Store Store { get; }

        public KvStateMachine Machine { get; }

        public string Text()
        {
            using var view = Store.OpenView();
            using var cursor = view.Scan(default);
            var text = new StringBuilder();
            while (cursor.MoveNext())
            {
                _ = text.Append(text.Length > 0 ? " " : "").Append(Wire.Text(cursor.Key)).Append('=').Append(Wire.Text(cursor.Value));
            }

            return text.ToString();
        }

        public void Dispose()
        {
            Machine.Dispose();
            Store.Dispose();
        }
    }
}
