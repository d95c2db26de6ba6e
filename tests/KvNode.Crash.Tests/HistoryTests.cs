using KvNode.Testing;

namespace KvNode.Crash.Tests;

/// <summary>The judge judged: histories accept what a crash may leave and nothing else.</summary>
public sealed class HistoryTests
{
    [Theory]
    [InlineData("a=1 b=1", true, "exactly the answered writes")]
    [InlineData("a=2 b=2", true, "the unanswered MSET too")]
    [InlineData("", true, "and the unanswered PDEL too")]
    [InlineData("a=1", false, "half of an answered MSET")]
    [InlineData("a=2 b=1", false, "half of an unanswered MSET")]
    [InlineData("b=2", false, "half of a PDEL")]
    [InlineData("a=0", false, "an answered write lost")]
    [InlineData("a=1 b=1 c=1", false, "a key nobody wrote")]
    public void HistoryAcceptsOnlyFirstWritesOfTheSequence(string found, bool accepted, string why)
    {
        var history = new WriterHistory("");
        history.AddSent(new HistoryWrite(WriteKind.Set, ["a"], ["0"]));
        history.AddSent(new HistoryWrite(WriteKind.MultiSet, ["a", "b"], ["1", "1"]));
        history.AddSent(new HistoryWrite(WriteKind.MultiSet, ["a", "b"], ["2", "2"]));
        history.AddSent(new HistoryWrite(WriteKind.PatternDelete, [""], []));
        Assert.Null(history.AddAnswer(Ok));
        Assert.Null(history.AddAnswer(Ok));

        var observed = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (var pair in found.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            observed.Add(pair[..1], pair[2..]);
        }

        if (accepted)
        {
            Assert.InRange(history.Match(observed, history.Answered), 2, 4);
        }
        else
        {
            Assert.True(Record.Exception(() => history.Match(observed, history.Answered)) is HistoryViolationException, why);
        }
    }

    [Fact]
    public void RefusedWriteMustNotBeSeen()
    {
        var history = new WriterHistory("");
        history.AddSent(new HistoryWrite(WriteKind.Set, ["a"], ["1"]));
        history.AddRefusal();
        var observed = new SortedDictionary<string, string>(StringComparer.Ordinal);
        Assert.Equal(1, history.Match(observed, 1));
        observed.Add("a", "1");
        Assert.Throws<HistoryViolationException>(() => history.Match(observed, 1));
    }

    [Fact]
    public void WrongCountInAnAnswerIsSaid()
    {
        var history = new WriterHistory("");
        history.AddSent(new HistoryWrite(WriteKind.Set, ["a"], ["1"]));
        history.AddSent(new HistoryWrite(WriteKind.Delete, ["a", "b"], []));
        Assert.Null(history.AddAnswer(Ok));
        Assert.NotNull(history.AddAnswer(new RespValue(':', "2"u8.ToArray(), null)));
    }

    private static RespValue Ok { get; } = new('+', "OK"u8.ToArray(), null);
}
