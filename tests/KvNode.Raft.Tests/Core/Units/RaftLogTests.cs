using KvNode.Raft.Core;
using KvNode.Testing;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

public sealed class RaftLogTests
{
    [Fact]
    public void TermsAreKnownFromTheEntryBeforeTheFirstToTheLast()
    {
        var log = LogOf(new EntryId(2, 10), 2, 2, 3);
        Assert.False(log.TryTerm(9, out _));
        Assert.True(log.TryTerm(10, out var before));
        Assert.True(log.TryTerm(13, out var last));
        Assert.False(log.TryTerm(14, out _));
        Assert.Equal((2ul, 3ul), (before, last));
        Assert.Equal(new EntryId(3, 13), log.Last);
    }

    [Fact]
    public void AStartedLogKnowsOlderTermsWithoutTheirEntries()
    {
        var log = new RaftLog(
            new EntryId(1, 4), [new(1, 5), new(3, 7)], [Entry(3, 9), Entry(5, 10)], new EntryId(3, 8));
        Assert.Equal([1, 1, 1, 3, 3, 3, 5], Terms(log));
        Assert.Equal(9ul, log.FirstInMemory);
        var allApplied = new RaftLog(new EntryId(1, 4), [new(1, 5), new(3, 7)], [], new EntryId(3, 8));
        Assert.Equal(new EntryId(3, 8), allApplied.Last);
        Assert.Equal(9ul, allApplied.FirstInMemory);
    }

    [Fact]
    public void ASliceEndsWhereTheBytesDoAndHasAtLeastOneEntry()
    {
        var log = LogOf(default, 1, 1, 1);
        Assert.Equal(1, log.Slice(1, 3, 0).Length);
        Assert.Equal(2, log.Slice(1, 3, 2 * Entry(1, 1).Size).Length);
        Assert.Equal(1, log.Slice(1, 3, (2 * Entry(1, 1).Size) - 1).Length);
        Assert.Equal(3, log.Slice(1, 9, long.MaxValue).Length);
        Assert.Equal(2ul, log.Slice(2, 2, long.MaxValue).Span[0].Id.Index);
        Assert.True(log.Slice(4, 9, long.MaxValue).IsEmpty);
    }

    [Theory]
    [InlineData(9, 9, 6, 3)]
    [InlineData(6, 2, 4, 2)]
    [InlineData(4, 2, 4, 2)]
    [InlineData(6, 1, 3, 1)]
    [InlineData(2, 9, 2, 1)]
    [InlineData(6, 0, 1, 0)]
    [InlineData(0, 9, 0, 0)]
    public void TheLastEntryNotAboveATermIsFoundInMemoryAndOutOfIt(ulong index, ulong term, ulong foundIndex, ulong foundTerm)
    {
        for (ulong evicted = 0; evicted <= 6; evicted++)
        {
            var log = LogOf(new EntryId(1, 1), 1, 1, 2, 3, 3);
            log.Releasable = 6;
            log.Evict(evicted);
            Assert.Equal(new EntryId(foundTerm, foundIndex), log.LastNotAbove(index, term));
        }
    }

    [Fact]
    public void WhatIsNotReleasableStaysInMemory()
    {
        var log = LogOf(default, 1, 1, 2, 2);
        log.Releasable = 2;
        log.Evict(4);
        Assert.Equal(3ul, log.FirstInMemory);
        Assert.Equal(2 * Entry(1, 1).Size, log.BytesInMemory);
        _ = Assert.Throws<InvariantException>(() => log.Compact(3));
        _ = Assert.Throws<InvariantException>(() => log.Slice(2, 3, 100));
    }

    [Fact]
    public void CompactionForgetsTermsUpToItsIndex()
    {
        var log = LogOf(default, 1, 1, 2, 2, 3);
        log.Releasable = 5;
        log.Compact(3);
        Assert.Equal(new EntryId(2, 3), log.BeforeFirst);
        Assert.False(log.TryTerm(2, out _));
        Assert.Equal([2, 2, 3], Terms(log));
        log.Compact(2);
        Assert.Equal(new EntryId(2, 3), log.BeforeFirst);
        log.Compact(5);
        Assert.Equal(new EntryId(3, 5), log.BeforeFirst);
        Assert.Equal(new EntryId(3, 5), log.Last);
        log.Append(Entry(4, 6));
        Assert.Equal([3, 4], Terms(log));
    }

    [Fact]
    public void ATruncatedLogGoesOnWithOtherEntries()
    {
        var log = LogOf(default, 1, 1, 2);
        log.Truncate(2);
        Assert.Equal(new EntryId(1, 1), log.Last);
        _ = Assert.Throws<InvariantException>(() => log.Append(Entry(3, 3)));
        log.Append(Entry(3, 2));
        Assert.Equal([0, 1, 3], Terms(log));
        log.Truncate(1);
        Assert.Equal(default, log.Last);
    }

    [Fact]
    public void ARestartedLogHasNothingButItsPosition()
    {
        var log = LogOf(default, 1, 1, 2);
        log.Restart(new EntryId(4, 20));
        Assert.Equal([4], Terms(log));
        Assert.Equal((21ul, 0L), (log.FirstInMemory, log.BytesInMemory));
        log.Append(Entry(5, 21));
        Assert.Equal(new EntryId(5, 21), log.Last);
    }

    [Fact]
    public void AnyMixOfCallsLeavesTheTermsOfTheModel() => Seeds.Run(nameof(AnyMixOfCallsLeavesTheTermsOfTheModel), random =>
    {
        var log = new RaftLog(default, [], [], default);
        var terms = new List<ulong> { 0 };
        ulong evictable = 0;
        for (var step = 0; step < 20_000; step++)
        {
            switch (random.Next(12))
            {
                case < 7:
                    var term = terms[^1] + (random.Next(10) == 0 ? 1ul : 0);
                    terms.Add(Math.Max(term, 1));
                    log.Append(Entry(terms[^1], (ulong)terms.Count - 1));
                    break;
                case 7:
                    var from = (ulong)random.Next((int)evictable + 1, terms.Count + 1);
                    terms.RemoveRange((int)from, terms.Count - (int)from);
                    log.Truncate(from);
                    break;
                case 8:
                    evictable = (ulong)random.Next((int)evictable, terms.Count);
                    log.Releasable = evictable;
                    break;
                case < 11:
                    log.Evict((ulong)random.Next(terms.Count));
                    break;
                default:
                    log.Compact((ulong)random.Next((int)evictable + 1));
                    break;
            }

            Assert.Equal((ulong)terms.Count - 1, log.Last.Index);
            CheckAgainst(terms, log, (ulong)random.Next(terms.Count));
        }
    });

    private static void CheckAgainst(List<ulong> terms, RaftLog log, ulong index)
    {
        Assert.Equal(index >= log.BeforeFirst.Index, log.TryTerm(index, out var term));
        if (index < log.BeforeFirst.Index)
        {
            return;
        }

        Assert.Equal(terms[(int)index], term);
        if (index < log.FirstInMemory)
        {
            return;
        }

        foreach (var entry in log.Slice(index, log.Last.Index, 500).Span)
        {
            Assert.Equal(new EntryId(terms[(int)index], index), entry.Id);
            index++;
        }
    }

    private static ulong[] Terms(RaftLog log)
    {
        var terms = new List<ulong>();
        for (var index = log.BeforeFirst.Index; index <= log.Last.Index; index++)
        {
            Assert.True(log.TryTerm(index, out var term));
            terms.Add(term);
        }

        return [.. terms];
    }

    private static RaftLog LogOf(EntryId beforeFirst, params ReadOnlySpan<ulong> terms)
    {
        var log = new RaftLog(beforeFirst, [], [], beforeFirst);
        foreach (var term in terms)
        {
            log.Append(Entry(term, log.Last.Index + 1));
        }

        return log;
    }

    private static LogEntry Entry(ulong term, ulong index) => new(new EntryId(term, index), EntryKind.Normal, new byte[8]);
}
