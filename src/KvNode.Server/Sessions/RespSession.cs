using System.Buffers;
using System.IO.Pipelines;
using KvNode.Raft;
using KvNode.Server.Commands;
using KvNode.Server.Replication;
using KvNode.Server.Resp;

namespace KvNode.Server.Sessions;

/// <summary>
/// One client: reads commands, sends them on their way, and sees that replies leave in the order the commands came.
/// </summary>
/// <remarks>
/// <para>With nothing outstanding, commands run here, at once. After a write has been handed to the proposer,
/// operations are outstanding: further writes and reads join the proposer's open batch and are answered by the apply
/// thread, in order; anything else waits until nothing is outstanding.</para>
/// <para>Only the session's own loop makes operations outstanding, and it sends replies only while there are none; the
/// apply thread sends only while there are some. So replies cannot overtake each other.</para>
/// </remarks>
internal sealed partial class RespSession : IClientControl, IReplySink, IDisposable
{
    [ThreadStatic]
    private static RespWriter? t_reply;

    private readonly SessionServices _services;
    private readonly PipeReader _input;
    private readonly SessionOutput _output;
    private readonly CommandReader _reader;
    private ReadOnlySequence<byte> _received;

    // A command that waits for the outstanding operations, or that takes long, as raw RESP.
    private byte[]? _deferred;
    private TaskCompletionSource? _drained;
    private int _outstanding;
    private volatile bool _stopping;
    private bool _closeAfterReply;
    private ReadLevel _readLevel;

    // Set when nobody waits for a long answer any more.
    private readonly CancellationTokenSource _gone;

    /// <param name="closed">Set by the transport when the client has gone.</param>
    public RespSession(
        SessionServices services, IDuplexPipe transport, ClientInfo info, Action<string> abort, CancellationToken closed)
    {
        _gone = CancellationTokenSource.CreateLinkedTokenSource(closed);
        _services = services;
        _readLevel = services.Options.ReadLevel;
        _input = transport.Input;
        _output = new SessionOutput(transport.Output, services.Stats, services.Options.OutputBufferBytesMax, abort);
        _reader = new CommandReader(services.RespLimits);
        Info = info;
    }

    /// <summary>What became of one pass over the received bytes.</summary>
    private enum Turn
    {
        /// <summary>Go on with the next command.</summary>
        Next,

        /// <summary>Everything received has been dealt with.</summary>
        NeedMore,

        /// <summary>The deferred command is to be run when nothing is outstanding.</summary>
        Deferred,

        /// <summary>Too much is outstanding: no further command is read before it is answered.</summary>
        Full,

        /// <summary>The connection is to be closed once the replies are out.</summary>
        Close,
    }

    public ClientInfo Info { get; }

    /// <summary>2 or 3. Changes only while nothing is outstanding.</summary>
    public int Protocol { get; private set; } = 2;

    /// <summary>Operations handed over and not answered yet.</summary>
    public int Outstanding => Volatile.Read(ref _outstanding);

    /// <summary>How long the client has not taken what was sent to it, in milliseconds; 0 when it is not behind.</summary>
    public long StalledMs => _output.StalledMs;

    /// <summary>Bytes answered and not yet taken by the socket.</summary>
    public long UnsentBytes => _output.UnsentBytes;

    /// <summary>True while a reply of unbounded size is being streamed: it pins a view of the store.</summary>
    public bool Streaming { get; private set; }

    // Replies made by this thread, sent before anything is handed to the apply thread. One buffer for all sessions that
    // run on a thread: a turn never waits, so two turns never share it.
    private static RespWriter Reply => t_reply ??= new RespWriter();

    /// <summary>Serves the client until it goes away, is cut off or the node stops.</summary>
    public async Task RunAsync()
    {
        try
        {
            await ServeAsync();
        }
        finally
        {
            _output.Complete();
        }
    }

    /// <summary>Gives buffers back; after <see cref="RunAsync"/> has ended.</summary>
    public void Dispose()
    {
        _reader.Dispose();
        _gone.Dispose();
    }

    /// <summary>Ends the session after the replies that are due. Any thread.</summary>
    public void Stop()
    {
        _stopping = true;
        _input.CancelPendingRead();
        try
        {
            _gone.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // It ended by itself meanwhile.
        }
    }

    /// <summary>Ends the connection at once: the client has gone past a limit. Any thread.</summary>
    public void CutOff(string reason) => _output.Abort(reason);

    /// <summary>Counts replies that a batch keeps for this session. Apply thread.</summary>
    public bool Hold(int bytes) => _output.Hold(bytes);

    /// <summary>Replies that were kept. Apply thread.</summary>
    public void Release(ReadOnlySpan<byte> replies) => _output.Release(replies);

    /// <summary>Replies to outstanding operations. Apply thread.</summary>
    public void Deliver(ReadOnlySpan<byte> replies, int operations)
    {
        _output.Send(replies);
        if (Interlocked.Add(ref _outstanding, -operations) == 0)
        {
            Volatile.Read(ref _drained)?.TrySetResult();
        }
    }

    public void SetProtocol(int version)
    {
        Protocol = version;
        Info.Protocol = version;
        Reply.Protocol = version;
    }

    public void SetReadOnly(bool readOnly) =>
        _readLevel = readOnly ? ReadLevel.Local : _services.Options.ReadLevel;

    public void CloseAfterReply() => _closeAfterReply = true;

    private async Task ServeAsync()
    {
        var carried = 0L;
        while (true)
        {
            var result = await _input.ReadAsync();
            _received = result.Buffer;
            Interlocked.Add(ref _services.Stats.NetInputBytes, _received.Length - carried);
            var turn = ProcessReceived();
            while (turn is Turn.Deferred or Turn.Full)
            {
                turn = await ResumeAsync(turn);
            }

            carried = _received.Length;
            Info.QueryBufferBytes = carried + _reader.BufferedBytes;
            _input.AdvanceTo(_received.Start, _received.End);
            _received = default;
            if (turn == Turn.Close || result.IsCompleted || _stopping || _output.Closed)
            {
                await WhenDrainedAsync();
                return;
            }

            if (_output.Behind)
            {
                // A client that does not take its replies is not asked for more commands.
                await WhenDrainedAsync();
            }
        }
    }

    // One pass over what has been received; never waits.
    private Turn ProcessReceived()
    {
        var pass = new Pass(this, Reply);
        try
        {
            return pass.Run();
        }
        finally
        {
            pass.End();
        }
    }

    private async ValueTask<Turn> ResumeAsync(Turn turn)
    {
        await WhenDrainedAsync();
        while (_services.Proposer.Overloaded && !_output.Closed)
        {
            await Task.Delay(1);
        }

        if (turn == Turn.Deferred)
        {
            await RunDeferredAsync();
            await WhenDrainedAsync();
        }

        return _closeAfterReply || _output.Closed ? Turn.Close : ProcessReceived();
    }

    /// <summary>Completes when nothing is outstanding and the client has taken every reply.</summary>
    private async ValueTask WhenDrainedAsync()
    {
        while (Outstanding > 0)
        {
            var drained = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            Interlocked.Exchange(ref _drained, drained);
            if (Outstanding > 0)
            {
                await drained.Task;
            }
        }

        _drained = null;
        await _output.WhenFlushedAsync();
    }
}
